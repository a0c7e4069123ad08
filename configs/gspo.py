"""GSPO on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2507.18071.

    python scripts/train.py --config=configs/gspo.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: policy/clip_frac_low and policy/clip_frac_high are far higher than under GRPO (the paper: about 0.15), as whole
sequences are clipped, in a range a thousand times narrower. With a Mixture-of-Experts the sequence's ratio stays calm where
single tokens change their experts.
From the paper: one ratio a sequence, clipped to 1 - 3e-4 .. 1 + 4e-4 (the loss's own default), four minibatches, no KL.
The token form: --config.algorithm.loss=gspo_token
"""
from jaxrl_moe.config import base


def get_config():
    config = base()
    config.run_dir = "runs/gspo"
    config.model.path = "huihui-ai/Huihui-MoE-1B-A0.6B-SFT"
    config.data.path = config.data.eval_path = "openai/gsm8k"
    config.data.suffix = "\nThink step by step, and end with '#### ' and the number."
    config.data.max_prompt_tokens = 320
    config.env.name = "gsm8k"
    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.rollout.max_tokens = 512
    config.algorithm.loss = "gspo"
    config.algorithm.kl_coef = 0.0
    config.algorithm.minibatches = 4
    config.optimizer.warmup_steps = 20
    config.train.steps = 500
    config.train.remat = "mlp"
    config.eval.every = 50
    config.eval.prompts = 200
    config.checkpoint.every = 50
    return config
