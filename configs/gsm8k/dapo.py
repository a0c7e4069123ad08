"""DAPO on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2503.14476.

    python scripts/train.py --config=configs/gsm8k/dapo.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: rollout/rounds rises as the policy improves, since ever more groups are all right and are
replaced; reward/mean covers all that was drawn, reward/used_mean what was trained on; policy/entropy falls
more slowly than under GRPO.
From the paper: clip 0.2 / 0.28, token-mean, no KL, groups of equal rewards replaced in at most 10 rounds,
several updates a batch, and the soft overlong penalty over the last fifth of the length (there 4,096 of
20,480 tokens, here 102 of 512). The reward is 1 or 0.
"""
from configs.shared.huihui_1b import rl_on_24gb


def get_config():
    config = rl_on_24gb()
    config.run_dir = "runs/dapo"
    config.env.name = "gsm8k(binary=true)"
    config.rollout.dynamic_sampling = True
    config.algorithm.aggregation = "token-mean"
    config.algorithm.clip_low = 0.2
    config.algorithm.clip_high = 0.28
    config.algorithm.kl_coef = 0.0
    config.algorithm.overlong_tokens = 512
    config.algorithm.overlong_cushion = 102
    config.algorithm.minibatches = 4
    return config
