"""SAPO on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2511.20347.

    python scripts/train.py --config=configs/gsm8k/sapo.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: no clip fractions, as nothing is clipped: the further a token's ratio is from 1 the less it
pulls, smoothly. Watch policy/approx_kl and policy/ratio_max instead.
From the paper: a sigmoid gate of temperature 1 where the advantage is positive, 1.05 where it is negative; no
KL.
"""
from configs.shared.huihui_1b import rl_on_24gb


def get_config():
    config = rl_on_24gb()
    config.run_dir = "runs/sapo"
    config.algorithm.loss = "sapo(tau_positive=1.0, tau_negative=1.05)"
    config.algorithm.kl_coef = 0.0
    config.algorithm.minibatches = 4
    return config
