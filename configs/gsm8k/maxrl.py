"""MaxRL on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2602.02710.

    python scripts/train.py --config=configs/gsm8k/maxrl.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: hard prompts pull harder than under GRPO, since a group's advantages are divided by its
success rate; reward/pass_at_k suffers less while reward/mean rises.
From the paper: (R - mean) / mean, on policy. The reward is 1 or 0: a negative one would turn the sign, and is
refused.
"""
from configs.shared.huihui_1b import rl_on_24gb


def get_config():
    config = rl_on_24gb()
    config.run_dir = "runs/maxrl"
    config.env.name = "gsm8k(binary=true)"
    config.algorithm.advantage = "maxrl"
    config.algorithm.loss = "reinforce"
    config.algorithm.kl_coef = 0.0
    return config
