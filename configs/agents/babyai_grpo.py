"""BabyAI in many turns: a small Qwen3-MoE, made from scratch, learns missions in rooms on a CPU.

    python scripts/train.py --config=configs/agents/babyai_grpo.py

Hardware: two CPU cores; ten minutes beside another such run.
What happens: data, tokenizer and model are made on the spot. SFT imitates a planner and beginners; GRPO with
LoRA on all linear layers, experts included, then plays eight episodes of each mission, of up to three turns.
What to expect on 256 held-out missions of GoToRedBallNoDists, GoToObjS6 and GoToDoor, sampled at T = 1, seeds
0 and 1: after SFT 0.61 and 0.58, after 40 steps of GRPO 0.78 and 0.79.
"""
from configs.shared.agents import small_player


def get_config():
    config = small_player("babyai_terse", "runs/babyai")
    config.env.name = "babyai(max_turns=3)"

    config.sft.steps = 300
    config.sft.sequences_per_step = 32

    config.rollout.max_tokens = 16
    config.train.steps = 40
    config.eval.prompts = 256
    return config
