"""CISPO on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2506.13585.

    python scripts/train.py --config=configs/cispo.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: every token keeps its gradient, the rare and surprising ones too; only the weight of a token is capped, and
policy/clip_frac_high says how often (near 0 while policy/ratio_max stays under 5).
From the paper: -sg(clip(r, 0, 5)) A log p, token-mean, no KL. The bounds are absolute ratios, not distances from 1.
"""
from jaxrl_moe.config import base


def get_config():
    config = base()
    config.run_dir = "runs/cispo"
    config.model.path = "huihui-ai/Huihui-MoE-1B-A0.6B-SFT"
    config.data.path = config.data.eval_path = "openai/gsm8k"
    config.data.suffix = "\nThink step by step, and end with '#### ' and the number."
    config.data.max_prompt_tokens = 320
    config.env.name = "gsm8k"
    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.rollout.max_tokens = 512
    config.algorithm.loss = "cispo(ratio_low=0, ratio_high=5)"
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
