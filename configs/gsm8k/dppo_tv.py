"""DPPO-TV on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2602.04879.

    python scripts/train.py --config=configs/gsm8k/dppo_tv.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: policy/clip_frac_low and policy/clip_frac_high count tokens whose probability has moved by
more than 0.2, which rare tokens hardly ever do, however large their ratio. Ratios run from the sampler to the
policy, so no correction for the sampler is needed, and none is allowed.
From the paper: the bound of 0.2 on the change of a token's probability, ratios cut at 20; no KL.
"""
from configs.shared.huihui_1b import rl_on_24gb


def get_config():
    config = rl_on_24gb()
    config.run_dir = "runs/dppo_tv"
    config.algorithm.loss = "dppo_tv(divergence=0.2, ratio_cap=20)"
    config.algorithm.aggregation = "token-mean"
    config.algorithm.kl_coef = 0.0
    config.algorithm.minibatches = 4
    return config
