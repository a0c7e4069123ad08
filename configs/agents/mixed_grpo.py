"""TextCraft and BabyAI in one run: a small Qwen3-MoE, made from scratch, learns both games on a CPU.

    python scripts/train.py --config=configs/agents/mixed_grpo.py
    python scripts/train.py --config=configs/agents/mixed_grpo.py --config.data.weights=textcraft=2,babyai=1

Hardware: two CPU cores; 19 minutes beside a little other work, 35 beside much.
What happens: data, tokenizer and model are made on the spot. SFT imitates what planners and beginners did in
both games; each step of GRPO then plays eight episodes of eight goals of TextCraft and of eight missions of
BabyAI, with LoRA on all linear layers, experts included.
What to expect on held-out goals and missions, sampled at T = 1, seeds 0 and 1: TextCraft 0.62 and 0.51 after
SFT, 0.78 and 0.74 after 40 steps of GRPO; BabyAI 0.57 and 0.58, then 0.75 and 0.71 (benchmarks/games.md).
"""
from configs.shared.agents import small_player

GAMES = ("textcraft", "babyai")


def get_config():
    config = small_player("", "runs/mixed")
    config.env.name = ("mixed(textcraft=\"textcraft(recipes='small', max_depth=1, max_turns=8)\", "
                       "babyai='babyai(max_turns=3)')")
    folder = config.get_ref("run_dir")
    config.data.path = config.data.eval_path = config.sft.path = ""
    config.data.files = of_each(folder, "train.jsonl")
    config.data.eval_files = of_each(folder, "eval.jsonl")
    config.sft.files = of_each(folder, "sft.jsonl")
    config.data.generate = ",".join(f"{game}={game}_terse" for game in GAMES)

    config.sft.steps = 300
    config.sft.sequences_per_step = 32

    config.rollout.max_tokens = 24
    config.train.steps = 40
    config.eval.prompts = 256
    return config


def of_each(folder, file):
    """The file of each game, in a folder of its own."""
    first, second = (f"{game}=" + folder + f"/data/{game}/{file}" for game in GAMES)
    return first + "," + second
