"""RLOO on GSM8K with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2402.14740.

    python scripts/train.py --config=configs/rloo.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one.
What to expect: plain REINFORCE, one update a batch, so policy/ratio_mean is 1 and nothing is clipped; the KL is paid from the
reward of the whole completion, so policy/kl_loss is logged without a gradient of its own.
From the paper: each reward less the mean of the group's others, the completion's log-probability as one sum, k1 in the reward.
"""
from jaxrl_moe.config import base


def get_config():
    config = base()
    config.run_dir = "runs/rloo"
    config.model.path = "huihui-ai/Huihui-MoE-1B-A0.6B-SFT"
    config.data.path = config.data.eval_path = "openai/gsm8k"
    config.data.suffix = "\nThink step by step, and end with '#### ' and the number."
    config.data.max_prompt_tokens = 320
    config.env.name = "gsm8k"
    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.rollout.max_tokens = 512
    config.algorithm.advantage = "rloo"
    config.algorithm.loss = "reinforce"
    config.algorithm.aggregation = "seq-mean-token-sum"
    config.algorithm.kl_in = "reward"
    config.algorithm.kl_estimator = "k1"
    config.algorithm.kl_coef = 0.05
    config.optimizer.warmup_steps = 20
    config.train.steps = 500
    config.train.remat = "mlp"
    config.eval.every = 50
    config.eval.prompts = 200
    config.checkpoint.every = 50
    return config
