"""RLOO on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2402.14740.

    python scripts/train.py --config=configs/gsm8k/rloo.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: plain REINFORCE, one update a batch, so policy/ratio_mean is 1 and nothing is clipped; the KL
is paid from the reward of the whole completion, so policy/kl_loss is logged without a gradient of its own.
From the paper: each reward less the mean of the group's others, the completion's log-probability as one sum,
k1 in the reward.
"""
from configs.shared.huihui_1b import rl_on_24gb


def get_config():
    config = rl_on_24gb()
    config.run_dir = "runs/rloo"
    config.algorithm.advantage = "rloo"
    config.algorithm.loss = "reinforce"
    config.algorithm.aggregation = "seq-mean-token-sum"
    config.algorithm.kl_in = "reward"
    config.algorithm.kl_estimator = "k1"
    config.algorithm.kl_coef = 0.05
    return config
