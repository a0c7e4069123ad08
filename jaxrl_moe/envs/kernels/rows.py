"""Rows of training from problems: prompts for RL, and conversations for SFT from those that have a
solution."""
from collections.abc import Callable, Mapping
from typing import Any

from jaxrl_moe.envs.kernels.instructions import completion, prompt
from jaxrl_moe.envs.kernels.problem_files import read
from jaxrl_moe.envs.kernels.problem_sets import KernelProblem, LeftOut, problems

TASK_TYPE = "triton_kernels"
SPLITS = ("train", "test", "all")


def prompt_row(problem: KernelProblem, largest: int = 0) -> dict[str, Any]:
    """A row of RL.

    Args:
      largest: the problem is judged with its module's integers cut to this, where it says no sizes itself; 0:
        at its own, which is for judges on a GPU.
    """
    return {"prompt": _messages(problem), "label": problem.source, "extra_info": _extra(problem, largest),
            "instance_id": problem.instance_id}


def conversation_row(problem: KernelProblem, largest: int = 0) -> dict[str, Any]:
    """A row of SFT: the solution is the answer."""
    answer = {"role": "assistant", "content": completion(problem.solution)}
    return {"messages": [*_messages(problem), answer], "extra_info": _extra(problem, 0),
            "instance_id": problem.instance_id}


FORMS: Mapping[str, Callable[[KernelProblem, int], dict[str, Any]]] = {
    "rl": prompt_row, "sft": conversation_row}


def rows(place: str, split: str, form: str, left_out: LeftOut, *, largest: int = 0,
         files_split: str = "train") -> list[dict[str, Any]]:
    """The rows of a set.

    Args:
      place, left_out: see problems().
      split: "train" or "test", which share no reference, or "all".
      form: a row of FORMS; of "sft", problems without a solution are left out, with a reason.
      largest: see prompt_row().
      files_split: see problems().

    Raises:
      UserError: a file or row is no problem.
    """
    made = []
    for problem in problems(place, left_out, files_split):
        if split != "all" and problem.held_out != (split == "test"):
            continue
        if form == "sft" and not problem.solution:
            left_out.reasons.append(f"{problem.instance_id} has no solution")
        else:
            made.append(FORMS[form](problem, largest))
    return made


def _messages(problem: KernelProblem) -> list[Mapping[str, str]]:
    return list(problem.messages) or prompt(read(problem.source).shown)


def _extra(problem: KernelProblem, largest: int) -> dict[str, Any]:
    told = {"level": problem.level, "problem_id": problem.number, "problem_name": problem.name,
            "data_source": problem.data_source, "task_type": TASK_TYPE}
    file = read(problem.source)
    if not largest or file.sizes or not any(value > largest for value in file.integers.values()):
        return told
    cut = {name: min(value, largest) for name, value in file.integers.items() if value >= 0}
    return told | {"sizes": [cut]}
