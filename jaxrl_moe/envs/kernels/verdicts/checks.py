"""What is asked of a candidate's answers. They come from its own process and may say anything: what says
what no answer says is a crash."""
from collections.abc import Callable
from typing import Any

from jaxrl_moe.envs.kernels.verdicts.compare import MalformedError, difference
from jaxrl_moe.envs.kernels.verdicts.trial import FoundError, Trial
from jaxrl_moe.envs.kernels.verdicts.verdict import Fault
from jaxrl_moe.envs.kernels.verdicts.warmed import Answer
from jaxrl_moe.types import UserError


def expect(answer: Answer, trial: Trial) -> None:
    if "error" in answer.head:
        raise FoundError(Fault.RAISED, str(answer.head["error"]).encode(errors="replace").decode())


def sound(answer: Answer) -> None:
    if "error" in answer.head:
        raise UserError(f"The problem's own file fails: {answer.head['error']}")


def launches_of_answer(answer: Answer) -> dict[str, dict[str, Any]]:
    """The kinds of launches that it tells of, each once."""
    told = answer.head.get("launches", [])
    are_launches = isinstance(told, list) and all(
        isinstance(each, dict) and isinstance(each.get("kernel"), str) for each in told)
    if not are_launches:
        raise FoundError(Fault.CRASHED, "Its process told of launches that are none.")
    return {repr(each): each for each in told}


def _computed(trial: Trial, made: Answer, answer: Answer) -> str | None:
    names = answer.head.get("computed", [])
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise FoundError(Fault.CRASHED, "Its process told of operators that are none.")
    if not names or trial.problem.torch_operators:
        return None
    return f"forward computes by torch's own operators: {', '.join(names)}. A kernel must do that."


def is_right(made: Answer, answer: Answer) -> bool:
    """Whether the output is what is expected."""
    return _differs(made, answer) is None


def _different(trial: Trial, made: Answer, answer: Answer) -> str | None:
    return _differs(made, answer)


def _differs(made: Answer, answer: Answer) -> str | None:
    try:
        differs = difference(made.head["output"], made.parts, answer.head.get("output"), answer.parts)
    except MalformedError as error:
        raise FoundError(Fault.CRASHED, f"Its process told of {error}.") from error
    return differs and differs.text


def _mutated(trial: Trial, made: Answer, answer: Answer) -> str | None:
    count = made.head["input_parts"]
    same = answer.head.get("inputs") == made.head["inputs"] and answer.parts[:count] == made.parts[:count]
    return None if same else "forward changes its inputs: write to memory of its own."


def _kept(trial: Trial, made: Answer, answer: Answer) -> str | None:
    if not answer.head.get("kept"):
        return None
    return ("forward keeps something for later calls, in a parameter, a buffer, an attribute or the module: "
            "compute it anew.")


def _aliased(trial: Trial, made: Answer, answer: Answer) -> str | None:
    if not answer.head.get("aliases") or made.head.get("aliases"):
        return None
    return "The output lies in the memory of an input: write to memory of its own."


# What is asked of each call, in this order.
CHECKS: dict[Fault, Callable[[Trial, Answer, Answer], str | None]] = {
    Fault.DECOY: _computed, Fault.MISMATCH: _different, Fault.MUTATED: _mutated, Fault.KEPT: _kept,
    Fault.ALIASED: _aliased}


def check_call(trial: Trial, made: Answer, answer: Answer) -> None:
    """Raises FoundError where a call is not what it should be."""
    for fault, check in CHECKS.items():
        wrong = check(trial, made, answer)
        if wrong:
            raise FoundError(fault, wrong)
