"""GSPO on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2507.18071.

    python scripts/train.py --config=configs/gsm8k/gspo.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: policy/clip_frac_low and policy/clip_frac_high are far higher than under GRPO (the paper:
about 0.15), as whole sequences are clipped, in a range a thousand times narrower. With a Mixture-of-Experts
the sequence's ratio stays calm where single tokens change their experts.
From the paper: one ratio a sequence, clipped to 1 - 3e-4 .. 1 + 4e-4 (the loss's own default), four
minibatches, no KL.
The token form: --config.algorithm.loss=gspo_token
"""
from configs.shared.huihui_1b import rl_on_24gb


def get_config():
    config = rl_on_24gb()
    config.run_dir = "runs/gspo"
    config.algorithm.loss = "gspo"
    config.algorithm.kl_coef = 0.0
    config.algorithm.minibatches = 4
    return config
