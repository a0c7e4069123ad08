"""What a task's environments say, checked where it arrives: tasks are anybody's code, and a reward that is no
number would be noticed much later, as a loss that is none."""
import contextlib
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxrl_moe.foreign_errors import crash
from jaxrl_moe.protocols import Task
from jaxrl_moe.types import Prompt, Step, UserError

_METHODS = ("reset", "step", "close")
_LARGEST = float(np.finfo(np.float32).max)
_SHOWN = 80  # characters of a value in a message


class GradeError(UserError):
    """An environment that broke, or said what it may not; the message names the data row and the task."""


@contextlib.contextmanager
def named(prompt: Prompt, task: Task) -> Iterator[None]:
    """Within it, what goes wrong is told with the data row and the task.

    Raises:
      GradeError: for any exception; it has that one as its cause.
    """
    subject = f"{prompt.origin}: the task {_name(task)}"
    try:
        yield
    except UserError as error:
        raise GradeError(f"{subject} refuses it: {error}") from error
    except Unfit as error:
        raise GradeError(f"{subject} {error}") from error
    except Exception as error:
        raise GradeError(f"{subject} broke: {crash(error)}. Mend the task, or leave the row out.") from error


class Unfit(Exception):
    """What an environment said cannot be used; the message goes on from "the task so-and-so"."""


def checked_env(env: Any) -> Any:
    """Returns what open() gave; raises Unfit if it is no environment."""
    lacking = [name for name in _METHODS if not callable(getattr(env, name, None))]
    if lacking:
        raise Unfit(f"opens {_shown(env)}, which has no {lacking[0]}(): let open() return an Env, as "
                    "docs/extending/task.md says.")
    return env


def checked_messages(messages: Any) -> tuple:
    """Returns what reset() gave as a tuple; raises Unfit if it is no sequence of messages."""
    if not isinstance(messages, tuple | list) or not all(isinstance(each, Mapping) for each in messages):
        raise Unfit(f"begins an episode with {_shown(messages)}: let reset() return messages, () for none.")
    return tuple(messages)


def checked_step(step: Any) -> Step:
    """Returns the step with plain numbers: a reward and info that are finite in float32, a boolean `done`.

    Raises:
      Unfit: it is no such step.
    """
    if not isinstance(step, Step):
        raise Unfit(f"answers with {_shown(step)}: let step() return a jaxrl_moe.types.Step(reward, done, "
                    "info).")
    if not isinstance(step.done, bool | np.bool_):
        raise Unfit(f"says done = {_shown(step.done)}: make it True or False.")
    if not isinstance(step.info, Mapping) or not all(isinstance(name, str) for name in step.info):
        raise Unfit(f"gives info = {_shown(step.info)}: make it a mapping of names to numbers, {{}} for "
                    "none.")
    achieved = step.achieved
    if achieved is not None and not (isinstance(achieved, tuple | list)
                                     and all(isinstance(name, str) for name in achieved)):
        raise Unfit(f"gives achieved = {_shown(achieved)}: make it a tuple of names, or None.")
    info = {name: _number(value, f"info[{name!r}]") for name, value in step.info.items()}
    return Step(_number(step.reward, "a reward"), bool(step.done), info, step.observation,
                None if achieved is None else tuple(achieved))


def _number(value: Any, what: str) -> float:
    """A number of Python, NumPy or JAX, true and false included, as a float."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    try:
        number = float(value) if isinstance(value, numbers.Real) else None
    except OverflowError:
        number = None
    if number is None or not abs(number) <= _LARGEST:
        raise Unfit(f"gives {what} of {_shown(value)}, which is no finite number (of float32): return one, "
                    "such as 0.0 where there is nothing to grade.")
    return number


def _shown(value: Any) -> str:
    text = repr(value)
    text = text if len(text) <= _SHOWN else text[:_SHOWN - 3] + "..."
    return text if value is None or isinstance(value, float | int) else f"{text} ({type(value).__name__})"


def _name(task: Task) -> str:
    """A task as env.name would name it."""
    return f"{type(task).__module__}:{type(task).__qualname__}"
