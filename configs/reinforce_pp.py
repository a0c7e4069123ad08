"""REINFORCE++ on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2501.03262.

    python scripts/train.py --config=configs/reinforce_pp.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: advantages are whitened over all tokens of the batch, not within a prompt's group, so that a group of one
works too (--config.rollout.group_size=1 --config.rollout.prompts_per_step=128).
From the paper: the PPO clip, k1 to the reference taken off the reward token by token, no critic. The form with a group's mean as
baseline: --config.algorithm.advantage=reinforce_pp_baseline
"""
from jaxrl_moe.config import base


def get_config():
    config = base()
    config.run_dir = "runs/reinforce_pp"
    config.model.path = "huihui-ai/Huihui-MoE-1B-A0.6B-SFT"
    config.data.path = config.data.eval_path = "openai/gsm8k"
    config.data.suffix = "\nThink step by step, and end with '#### ' and the number."
    config.data.max_prompt_tokens = 320
    config.env.name = "gsm8k"
    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.rollout.max_tokens = 512
    config.algorithm.advantage = "reinforce_pp"
    config.algorithm.aggregation = "token-mean"
    config.algorithm.kl_in = "reward"
    config.algorithm.kl_estimator = "k1"
    config.algorithm.kl_coef = 0.01
    config.algorithm.minibatches = 4
    config.optimizer.warmup_steps = 20
    config.train.steps = 500
    config.train.remat = "mlp"
    config.eval.every = 50
    config.eval.prompts = 200
    config.checkpoint.every = 50
    return config
