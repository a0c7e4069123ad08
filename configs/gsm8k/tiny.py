"""A tiny random MoE, made on the spot, on the real GSM8K rows: SFT, then 30 steps of GRPO. A test of the
whole path.

    python scripts/train.py --config=configs/gsm8k/tiny.py
    python scripts/train.py --config=configs/gsm8k/tiny.py --config.data.path=gsm8k/train.jsonl \\
        --config.data.eval_path=gsm8k/test.jsonl --config.sft.path=gsm8k/train.jsonl     # local files

Hardware: two CPU cores. What to expect: two million parameters do not learn to calculate; they learn the
form. After SFT a part of the completions ends in "#### N" and earns the marker bonus of 0.05; GRPO raises
env/marker and reward/mean. 200 test rows are evaluated before and after.
"""
from configs.shared.gsm8k import gsm8k


def get_config():
    config = gsm8k()
    config.run_dir = "runs/gsm8k_tiny"
    config.model.path = config.get_ref("run_dir") + "/base"
    config.scratch.vocab_size = 1024
    config.scratch.hidden_size = 128
    config.scratch.num_layers = 2
    config.scratch.num_experts = 8
    config.scratch.intermediate_size = 128
    config.scratch.context = 512
    config.scratch.initializer_range = 0.05
    config.lora.rank = 16
    config.lora.alpha = 32.0
    config.data.suffix = ""
    config.data.max_prompt_tokens = 128
    config.sft.path = "openai/gsm8k"
    config.sft.steps = 60
    config.sft.sequences_per_step = 32
    config.sft.max_tokens = 256
    config.sft.learning_rate = 3e-3
    config.rollout.prompts_per_step = 8
    config.rollout.group_size = 8
    config.rollout.max_tokens = 128
    config.rollout.slots = 64
    config.rollout.page_size = 16
    config.optimizer.learning_rate = 2e-3
    config.train.steps = 30
    config.train.tokens_per_micro_batch = 16384
    config.checkpoint.every = 10
    return config
