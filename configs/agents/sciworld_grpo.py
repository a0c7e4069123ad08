"""ScienceWorld in many turns: a small Qwen3-MoE, made from scratch, learns which animal lives longest, or
shortest, on a CPU.

    python scripts/train.py --config=configs/agents/sciworld_grpo.py

Hardware: two CPU cores, Java, and 2 GiB for four Java processes. On Debian and Ubuntu:
apt-get install openjdk-17-jre-headless.
What happens: data, tokenizer and model are made on the spot, the data by playing each of 124 variations once.
SFT imitates one who knows and beginners, who go to see the animals and focus on any; GRPO with LoRA on all
linear layers, experts included, then plays eight episodes of each variation, of up to three turns, with
teleportation. A wrong focus ends an episode at 0, the right one at 1, and to have come outside is worth 0.5.
The held-out variations are those of ScienceWorld's own test split.
What to expect on these, sampled at T = 1, seeds 0 and 1: a mean score of 0.06 before SFT, 0.54 after it with
both, 0.63 and 0.61 after 40 steps of GRPO; the right animal in 0.00, then 0.16 and 0.22, then 0.31 of the
episodes with both (benchmarks/games.md). 40 minutes beside other work.
"""
from configs.shared.agents import small_player


def get_config():
    config = small_player("sciworld_terse", "runs/sciworld")
    config.env.name = "sciworld(max_turns=3, simplifications='easy', jvms=4)"
    config.scratch.context = 1024  # all of an episode; a kitchen is told of at length
    config.episodes.max_tokens = 896
    config.sft.max_tokens = 1024

    config.sft.steps = 200
    config.sft.sequences_per_step = 16

    config.rollout.max_tokens = 24
    config.rollout.prompts_per_step = 8
    config.train.steps = 40
    config.eval.prompts = 64
    return config
