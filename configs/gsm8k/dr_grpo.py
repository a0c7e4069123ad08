"""Dr.GRPO on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2503.20783.

    python scripts/train.py --config=configs/gsm8k/dr_grpo.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: as with grpo, but completion/length_mean does not creep up on wrong answers, since neither the
length of a completion nor the spread of its group scales the gradient; policy/loss is small, as it is divided
by rollout.max_tokens.
From the paper: A = R - mean, a constant length in the denominator, no KL.
"""
from configs.shared.huihui_1b import rl_on_24gb


def get_config():
    config = rl_on_24gb()
    config.run_dir = "runs/dr_grpo"
    config.algorithm.advantage = "dr_grpo"
    config.algorithm.aggregation = "seq-mean-token-sum-norm"
    config.algorithm.kl_coef = 0.0
    return config
