"""Writes episodes to learn from, for supervised fine-tuning: as an oracle plays an environment, or of a run's
own the good ones.

    python scripts/make_trajectories.py --env="textcraft(recipes='small')" --count=100 --out=textcraft.jsonl
    python scripts/make_trajectories.py --env=babyai --count=100 --format=agenttraj --out=babyai.json
    python scripts/make_trajectories.py --env=babyai --count=100 --split=test --prompts --out=prompts.jsonl
    python scripts/make_trajectories.py --from_run=runs/textcraft --min_reward=1 --out=own.jsonl

An oracle's episodes are played in the environment itself; those that do not succeed are left out, and
counted. A command that was killed goes on where it was when it is given again, and comes to the same bytes.
--prompts writes rows for RL in their place, which are not played. What a run drew is taken word for word, and
compared with its tokens. Train on the file with scripts/sft.py --config=... --config.sft.path=FILE. See
docs/agents/trajectories.md.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import pathlib

from absl import flags

from jaxrl_moe import cli
from jaxrl_moe.demonstrations import forms, from_run
from jaxrl_moe.demonstrations.make import SPLITS, Wanted, make, make_prompts
from jaxrl_moe.options import MOST_FLOAT, define_number, define_path, define_switch, define_text
from jaxrl_moe.types import UserError

ENV = define_text("env", "", "the environment that an oracle plays, with its settings in brackets, as in "
                             "env.name")
COUNT = define_number("count", 100, "of episodes that succeed", 1)
OUT = define_path("out", None, "the file to write, .jsonl, .json or .parquet (required)")
SEED = define_number("seed", 0, "decides which episodes, and their order")
SPLIT = flags.DEFINE_enum("split", "train", SPLITS, "which episodes; the two share none")
FORMAT = flags.DEFINE_enum("format", "messages", [*forms.FORMS], "of the rows: messages of chat templates, "
                           "or AgentTraj's conversations with a loss for each turn")
THOUGHTS = define_switch("thoughts", True, "whether the oracle's answers say why, before the command")
WORKERS = define_number("workers", 1, "processes that play side by side", 1, 256)
PROMPTS = define_switch("prompts", False, "rows of RL for the same episodes, which are not played")
FROM_RUN = define_path("from_run", None, "folder of a run whose own episodes are taken, in place of --env")
MIN_REWARD = define_number("min_reward", 0.5, "that an episode of the run must have come to", -MOST_FLOAT)
MAX_PER_PROMPT = define_number("max_per_prompt", 0, "of the run's episodes of one prompt, the best are "
                               "taken; 0: all")
NEWEST = define_switch("newest", False, "of the run's episodes of one prompt the newest are taken, in place "
                       "of the best")
_OF_AN_ORACLE = ("count", "seed", "split", "format", "thoughts", "workers", "prompts")
_OF_A_RUN = ("min_reward", "max_per_prompt", "newest")


def main() -> None:
    cli.require(OUT)
    out = pathlib.Path(OUT.value)
    if ENV.value and FROM_RUN.value:
        raise UserError("--env and --from_run are given: an oracle plays, or a run's episodes are taken. "
                        "Leave one out.")
    if FROM_RUN.value:
        refuse_idle(_OF_AN_ORACLE, "from_run")
        if NEWEST.value and not MAX_PER_PROMPT.value:
            raise UserError("--newest has no effect without --max_per_prompt, which says how many of them: "
                            "give that too.")
        choice = from_run.Choice(pathlib.Path(FROM_RUN.value), MIN_REWARD.value, MAX_PER_PROMPT.value,
                                 NEWEST.value)
        print(from_run.collect(choice, out))
        return
    cli.require(ENV)
    refuse_idle(_OF_A_RUN, "env")
    wanted = Wanted(ENV.value, COUNT.value, SEED.value, SPLIT.value, FORMAT.value, THOUGHTS.value)
    if PROMPTS.value:
        refuse_idle(("thoughts", "workers"), "prompts")
        print(make_prompts(wanted, out))
        return
    print(make(wanted, out, WORKERS.value))


def refuse_idle(names: tuple[str, ...], beside: str) -> None:
    """Raises UserError for an option that has no effect beside another."""
    for name in names:
        if flags.FLAGS[name].present:
            raise UserError(f"--{name} has no effect with --{beside}: leave it out.")


if __name__ == "__main__":
    cli.run(main, recipe=False)
