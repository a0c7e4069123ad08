"""Writes episodes to learn from: as an oracle plays an environment, for supervised fine-tuning.

    python scripts/make_trajectories.py --env="textcraft(recipes='small')" --count=100 --out=textcraft.jsonl
    python scripts/make_trajectories.py --env=babyai --count=100 --format=agenttraj --out=items.json
    python scripts/sft.py --config=configs/gsm8k/sft.py --config.sft.path=textcraft.jsonl

Every episode is played in the environment itself; those that do not succeed are left out, and counted. A
command that was killed goes on where it was when it is given again, and comes to the same bytes. See
docs/agents/trajectories.md.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import pathlib

from absl import flags

from jaxrl_moe import cli
from jaxrl_moe.demonstrations import forms
from jaxrl_moe.demonstrations.make import SPLITS, Wanted, make
from jaxrl_moe.options import define_number, define_path, define_switch, define_text

ENV = define_text("env", "", "the environment, with its settings in brackets, as in env.name")
COUNT = define_number("count", 100, "of episodes that succeed", 1)
OUT = define_path("out", None, "the file to write, .jsonl or .json (required)")
SEED = define_number("seed", 0, "decides which episodes, and their order")
SPLIT = flags.DEFINE_enum("split", "train", SPLITS, "which episodes; the two share none")
FORMAT = flags.DEFINE_enum("format", "messages", [*forms.FORMS], "of the rows: messages of chat templates, "
                           "or AgentTraj's conversations with a loss for each turn")
THOUGHTS = define_switch("thoughts", True, "whether answers say why, before the command")
WORKERS = define_number("workers", 1, "processes that play side by side", 1, 256)


def main() -> None:
    cli.require(ENV, OUT)
    wanted = Wanted(ENV.value, COUNT.value, SEED.value, SPLIT.value, FORMAT.value, THOUGHTS.value)
    print(make(wanted, pathlib.Path(OUT.value), WORKERS.value))


if __name__ == "__main__":
    cli.run(main, recipe=False)
