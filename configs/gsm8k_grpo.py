"""GRPO on GSM8K with Huihui-MoE-1B-A0.6B (3 experts, 1 active), LoRA on all linear layers.

    python scripts/train.py --config=configs/gsm8k_grpo.py
    python scripts/train.py --config=configs/gsm8k_grpo.py --config.data.path=gsm8k/train.jsonl \
        --config.data.eval_path=gsm8k/test.jsonl     # local files in place of the hub's

Hardware: one GPU of 24 GB; compiled for an RTX 3090 (benchmarks/plan.md), not run on one. On a CPU it runs too, for tests.
Reward: 1 if the final number is right, +0.05 for an answer marker, -0.05 if over-long. What to expect: the marker bonus
is learnt within tens of steps; accuracy rises over hundreds. Evaluation: 200 test rows every 50 steps, sampled and greedy.
Against the common setting for this model (LoRA r 16, alpha 32, dropout 0.05, T 0.8, top-p 0.95): top_p is 1 here, since
log-probs are those of the whole distribution and truncated sampling would bias the ratio.
"""
from jaxrl_moe.config import base


def get_config():
    config = base()
    config.run_dir = "runs/gsm8k_grpo"
    config.model.path = "huihui-ai/Huihui-MoE-1B-A0.6B-SFT"
    config.lora.rank = 16
    config.lora.alpha = 32.0
    config.lora.dropout = 0.05
    config.data.path = "openai/gsm8k"
    config.data.eval_path = "openai/gsm8k"
    config.data.suffix = "\nThink step by step, and end with '#### ' and the number."
    config.data.max_prompt_tokens = 320
    config.env.name = "gsm8k"
    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.rollout.max_tokens = 512
    config.rollout.temperature = 0.8
    config.rollout.slots = 64
    config.algorithm.kl_coef = 0.05
    config.optimizer.learning_rate = 1e-5
    config.optimizer.weight_decay = 0.01
    config.optimizer.warmup_steps = 100
    config.train.steps = 500
    config.train.tokens_per_micro_batch = 8192
    config.train.remat = "mlp"  # none asks for 21 GiB a micro-batch, more than 24 GB cards have room for
    config.eval.every = 50
    config.eval.prompts = 200
    config.eval.temperature = 0.8
    config.eval.greedy = True
    config.checkpoint.every = 50
    return config
