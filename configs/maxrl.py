"""MaxRL on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2602.02710.

    python scripts/train.py --config=configs/maxrl.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: hard prompts pull harder than under GRPO, since a group's advantages are divided by its success rate;
reward/pass_at_k suffers less while reward/mean rises.
From the paper: (R - mean) / mean, on policy. The reward is 1 or 0: a negative one would turn the sign, and is refused.
"""
from jaxrl_moe.config import base


def get_config():
    config = base()
    config.run_dir = "runs/maxrl"
    config.model.path = "huihui-ai/Huihui-MoE-1B-A0.6B-SFT"
    config.data.path = config.data.eval_path = "openai/gsm8k"
    config.data.suffix = "\nThink step by step, and end with '#### ' and the number."
    config.data.max_prompt_tokens = 320
    config.env.name = "gsm8k(binary=true)"
    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.rollout.max_tokens = 512
    config.algorithm.advantage = "maxrl"
    config.algorithm.loss = "reinforce"
    config.algorithm.kl_coef = 0.0
    config.optimizer.warmup_steps = 20
    config.train.steps = 500
    config.train.remat = "mlp"
    config.eval.every = 50
    config.eval.prompts = 200
    config.checkpoint.every = 50
    return config
