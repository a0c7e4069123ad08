"""Data of the grammar: prompts for RL, and for SFT the answers of pupils who know what is asked, and often
not how a kernel does it; what they are told is what the judge would say."""
import random
from typing import Any

import numpy as np

from jaxrl_moe.envs.kernels.choices.grammar import PROBLEMS, SLOTS, Choice, RowProblem, said
from jaxrl_moe.envs.kernels.choices.predicted import predicted
from jaxrl_moe.envs.kernels.feedback import feedback
from jaxrl_moe.envs.kernels.verdicts.verdict import Fault, Verdict

TURNS = 3
FEEDBACK_CHARS = 40  # of an error: for models with a short context
AGAIN = "Choose again."
_HELD_OUT = 5  # one of so many
# What pupils do at first, with how often; the other options of a slot share the rest.
_HABITS = {"other": ("0", 0.6), "bound": ("columns", 0.85), "type": ("float32", 0.8), "block": ("power", 0.8)}
_KNOWN = 0.97     # how often a pupil writes what the problem says
_LISTENS = 0.8    # how often a pupil changes what an error is about


def make_rows(seed: int, conversations: int = 3000) -> dict[str, list[dict[str, Any]]]:
    """Rows of RL ("train" and "eval", which share no problem) and of SFT on the problems of "train"."""
    train = [problem for number, problem in enumerate(PROBLEMS) if not held_out(number)]
    test = [problem for number, problem in enumerate(PROBLEMS) if held_out(number)]
    draw = random.Random(f"pupils {seed}")
    rng = np.random.default_rng(seed)
    return {"train": [row(problem) for problem in train], "eval": [row(problem) for problem in test],
            "sft": [conversation(train[number % len(train)], draw, rng) for number in range(conversations)]}


def held_out(number: int) -> bool:
    """Whether a problem of PROBLEMS is held out; each map and reduction is among those that are learnt
    too."""
    return number % _HELD_OUT == 3


def row(problem: RowProblem) -> dict[str, Any]:
    """A row of RL."""
    extra = {"level": 0, "problem_id": PROBLEMS.index(problem), "problem_name": problem.name,
             "data_source": "kernel_choices", "task_type": "triton_choices"}
    return {"prompt": [{"role": "user", "content": problem.words}], "label": problem.reference,
            "extra_info": extra, "instance_id": f"kernel_choices/{problem.name}"}


def conversation(problem: RowProblem, draw: random.Random, rng: np.random.Generator) -> dict[str, Any]:
    """A row of SFT: a pupil's attempts, up to one that is right."""
    messages = list(row(problem)["prompt"])
    choice = first(problem, draw)
    for turn in range(TURNS):
        messages.append({"role": "assistant", "content": said(choice)})
        verdict = predicted(problem, choice, rng)
        if verdict.correct or turn == TURNS - 1:
            break
        messages.append({"role": "user", "content": feedback(verdict, FEEDBACK_CHARS, AGAIN)})
        choice = revised(choice, verdict, draw)
    return {"messages": messages}


def first(problem: RowProblem, draw: random.Random) -> dict[str, str]:
    """What a pupil chooses at first."""
    habits = {slot: (getattr(problem, slot), _KNOWN) for slot in problem._fields} | _HABITS
    return {slot: _chosen(slot, *habits[slot], draw) for slot in SLOTS}


def revised(choice: Choice, verdict: Verdict, draw: random.Random) -> dict[str, str]:
    """What a pupil makes of it who was told what is wrong."""
    slots = ["block"] if verdict.fault in (Fault.RAISED, Fault.NOT_COMPILED) else ["other", "bound", "type"]
    slot = draw.choice(slots) if draw.random() < _LISTENS else draw.choice(list(_HABITS))
    return {**choice, slot: _another(slot, choice[slot], draw)}


def _chosen(slot: str, habit: str, often: float, draw: random.Random) -> str:
    return habit if draw.random() < often else _another(slot, habit, draw)


def _another(slot: str, option: str, draw: random.Random) -> str:
    return draw.choice([other for other in SLOTS[slot] if other != option])
