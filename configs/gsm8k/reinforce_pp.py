"""REINFORCE++ on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2501.03262.

    python scripts/train.py --config=configs/gsm8k/reinforce_pp.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: advantages are whitened over all tokens of the batch, not within a prompt's group, so that a
group of one works too (--config.rollout.group_size=1 --config.rollout.prompts_per_step=128).
From the paper: the PPO clip, k1 to the reference taken off the reward token by token, no critic. The form
with a group's mean as baseline: --config.algorithm.advantage=reinforce_pp_baseline
"""
from configs.shared.huihui_1b import rl_on_24gb


def get_config():
    config = rl_on_24gb()
    config.run_dir = "runs/reinforce_pp"
    config.algorithm.advantage = "reinforce_pp"
    config.algorithm.aggregation = "token-mean"
    config.algorithm.kl_in = "reward"
    config.algorithm.kl_estimator = "k1"
    config.algorithm.kl_coef = 0.01
    config.algorithm.minibatches = 4
    return config
