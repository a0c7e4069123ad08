"""CISPO on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2506.13585.

    python scripts/train.py --config=configs/gsm8k/cispo.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: every token keeps its gradient, the rare and surprising ones too; only the weight of a token
is capped, and policy/clip_frac_high says how often (near 0 while policy/ratio_max stays under 5).
From the paper: -sg(clip(r, 0, 5)) A log p, token-mean, no KL. The bounds are absolute ratios, not distances
from 1.
"""
from configs.shared.huihui_1b import rl_on_24gb


def get_config():
    config = rl_on_24gb()
    config.run_dir = "runs/cispo"
    config.algorithm.loss = "cispo(ratio_low=0, ratio_high=5)"
    config.algorithm.aggregation = "token-mean"
    config.algorithm.kl_coef = 0.0
    config.algorithm.minibatches = 4
    return config
