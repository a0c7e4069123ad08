"""SAPO on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2511.20347.

    python scripts/train.py --config=configs/sapo.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: no clip fractions, as nothing is clipped: the further a token's ratio is from 1 the less it pulls, smoothly.
Watch policy/approx_kl and policy/ratio_max instead.
From the paper: a sigmoid gate of temperature 1 where the advantage is positive, 1.05 where it is negative; no KL.
"""
from jaxrl_moe.config import base


def get_config():
    config = base()
    config.run_dir = "runs/sapo"
    config.model.path = "huihui-ai/Huihui-MoE-1B-A0.6B-SFT"
    config.data.path = config.data.eval_path = "openai/gsm8k"
    config.data.suffix = "\nThink step by step, and end with '#### ' and the number."
    config.data.max_prompt_tokens = 320
    config.env.name = "gsm8k"
    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.rollout.max_tokens = 512
    config.algorithm.loss = "sapo(tau_positive=1.0, tau_negative=1.05)"
    config.algorithm.kl_coef = 0.0
    config.algorithm.minibatches = 4
    config.optimizer.warmup_steps = 20
    config.train.steps = 500
    config.train.remat = "mlp"
    config.eval.every = 50
    config.eval.prompts = 200
    config.checkpoint.every = 50
    return config
