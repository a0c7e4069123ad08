"""TextCraft in many turns: a small Qwen3-MoE, made from scratch, learns to craft on a CPU.

    make quickstart-agents
    python scripts/train.py --config=configs/agents/textcraft_grpo.py
"""
from configs.shared.agents import small_player


def get_config():
    config = small_player("textcraft_terse", "runs/textcraft")
    config.env.name = "textcraft(recipes='small', max_turns=8)"
    config.scratch.context = 512
    config.data.max_prompt_tokens = 64
    config.episodes.max_tokens = 448

    config.sft.steps = 600
    config.sft.sequences_per_step = 48
    config.sft.max_tokens = 512

    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.rollout.max_tokens = 24
    config.rollout.slots = 128
    config.train.steps = 30
    config.train.tokens_per_micro_batch = 16384
    config.eval.every = 10
    config.eval.prompts = 128
    config.checkpoint.every = 10
    return config
