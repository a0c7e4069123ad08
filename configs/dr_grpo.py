"""Dr.GRPO on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2503.20783.

    python scripts/train.py --config=configs/dr_grpo.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: as with gsm8k_grpo, but completion/length_mean does not creep up on wrong answers, since neither the length of a
completion nor the spread of its group scales the gradient; policy/loss is small, as it is divided by rollout.max_tokens.
From the paper: A = R - mean, a constant length in the denominator, no KL.
"""
from jaxrl_moe.config import base


def get_config():
    config = base()
    config.run_dir = "runs/dr_grpo"
    config.model.path = "huihui-ai/Huihui-MoE-1B-A0.6B-SFT"
    config.data.path = config.data.eval_path = "openai/gsm8k"
    config.data.suffix = "\nThink step by step, and end with '#### ' and the number."
    config.data.max_prompt_tokens = 320
    config.env.name = "gsm8k"
    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.rollout.max_tokens = 512
    config.algorithm.advantage = "dr_grpo"
    config.algorithm.aggregation = "seq-mean-token-sum-norm"
    config.algorithm.kl_coef = 0.0
    config.optimizer.warmup_steps = 20
    config.train.steps = 500
    config.train.remat = "mlp"
    config.eval.every = 50
    config.eval.prompts = 200
    config.checkpoint.every = 50
    return config
