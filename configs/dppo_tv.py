"""DPPO-TV on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2602.04879.

    python scripts/train.py --config=configs/dppo_tv.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: policy/clip_frac_low and policy/clip_frac_high count tokens whose probability has moved by more than 0.2, which
rare tokens hardly ever do, however large their ratio. Ratios run from the sampler to the policy, so no correction for the sampler
is needed, and none is allowed.
From the paper: the bound of 0.2 on the change of a token's probability, ratios cut at 20; no KL.
"""
from jaxrl_moe.config import base


def get_config():
    config = base()
    config.run_dir = "runs/dppo_tv"
    config.model.path = "huihui-ai/Huihui-MoE-1B-A0.6B-SFT"
    config.data.path = config.data.eval_path = "openai/gsm8k"
    config.data.suffix = "\nThink step by step, and end with '#### ' and the number."
    config.data.max_prompt_tokens = 320
    config.env.name = "gsm8k"
    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.rollout.max_tokens = 512
    config.algorithm.loss = "dppo_tv(divergence=0.2, ratio_cap=20)"
    config.algorithm.aggregation = "token-mean"
    config.algorithm.kl_coef = 0.0
    config.algorithm.minibatches = 4
    config.optimizer.warmup_steps = 20
    config.train.steps = 500
    config.train.remat = "mlp"
    config.eval.every = 50
    config.eval.prompts = 200
    config.checkpoint.every = 50
    return config
