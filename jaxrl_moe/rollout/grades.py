"""What a task's environments say, checked where it arrives: tasks are anybody's code, and a reward that is no
number would be noticed much later, as a loss that is none."""
import contextlib
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl_moe.foreign_errors import crash
from jaxrl_moe.protocols import Task
from jaxrl_moe.types import EnvError, Prompt, Status, Step, UserError

_LARGEST = float(np.finfo(np.float32).max)
_SHOWN = 80  # characters of a value in a message


class GradeError(UserError):
    """An environment that broke, or said what it may not; the message names the data row and the task."""


@contextlib.contextmanager
def named(prompt: Prompt, task: Task) -> Iterator[None]:
    """Within it, what goes wrong is told with the data row and the task.

    Raises:
      EnvError: the environment failed, and may not fail the next time.
      GradeError: it refuses the row; or the task is deterministic and broke, so that it would break again.
        Both have the exception as their cause.
    """
    subject = f"{prompt.origin}: the task {_name(task)}"
    try:
        yield
    except EnvError as error:
        raise EnvError(error.status, f"{subject}: {error}", error.final) from error
    except UserError as error:
        raise GradeError(f"{subject} refuses it: {error}") from error
    except Unfit as error:
        raise _failure(task, Status.MALFORMED, f"{subject} {error}") from error
    except Exception as error:
        raise _failure(task, Status.CRASHED, f"{subject} broke: {crash(error)}. Mend the task, or leave the "
                       "row out.") from error


def _failure(task: Task, status: Status, message: str) -> UserError:
    return GradeError(message) if task.deterministic else EnvError(status, message)


class Unfit(Exception):
    """What an environment said cannot be used; the message goes on from "the task so-and-so"."""


def checked_env(env: Any) -> Any:
    """Returns what open() gave; raises Unfit if it is no environment."""
    return _with_methods(env, ("reset", "step", "close"), "an Env")


def checked_agent_episode(episode: Any) -> Any:
    """Returns what open() gave; raises Unfit if no agent can play it."""
    return _with_methods(episode, ("play", "close"), "an AgentEpisode, as the task has by_agents = True")


def _with_methods(given: Any, methods: Sequence[str], needed: str) -> Any:
    lacking = [name for name in methods if not callable(getattr(given, name, None))]
    if lacking:
        raise Unfit(f"opens {_shown(given)}, which has no {lacking[0]}(): let open() return {needed}, as "
                    "docs/extending/task.md says.")
    return given


def checked_messages(messages: Any) -> tuple:
    """Returns what reset() gave as a tuple; raises Unfit if it is no sequence of messages."""
    if not _are_messages(messages):
        raise Unfit(f"begins an episode with {_shown(messages)}: let reset() return messages, () for none.")
    return tuple(map(dict, messages))


def no_messages(messages: tuple) -> None:
    """Raises Unfit where an episode of one turn begins with messages of its own."""
    if messages:
        raise Unfit("opens the row with messages of its own, and in an episode of one turn the policy has "
                    "answered the row's prompt alone by then: put them into the prompt, or let the task's "
                    "max_turns be more than 1.")


def single_step(step: Step) -> Step:
    """Returns the step of an episode of one turn; raises Unfit if it does not end it."""
    if not step.done:
        raise Unfit("goes on after the first completion, and its episodes have one turn: let it be done, or "
                    "let the task's max_turns (or episodes.rounds) be more than 1.")
    return step


def checked_outcome(outcome: Any) -> Step | tuple[Step, ...]:
    """Returns what came of an episode that an agent has played: the step of the whole, or those of its calls.

    Raises:
      Unfit: it is neither, or not the last of them alone ends the episode.
    """
    several = isinstance(outcome, tuple | list)
    steps = tuple(map(checked_step, outcome if several else (outcome,)))
    if not steps:
        raise Unfit("has an episode played and says nothing of it: let play() return the Step of the whole, "
                    "or one for each call of the policy.")
    if not steps[-1].done or any(step.done for step in steps[:-1]):
        raise Unfit("has an episode played and says done = False: let play() return once it is over, with "
                    "done=True in its last step alone, or raise EnvError where it failed.")
    return steps if several else steps[0]


def _are_messages(messages: Any) -> bool:
    return isinstance(messages, tuple | list) and all(isinstance(each, Mapping) for each in messages)


def _are_texts(pair: tuple[Any, Any]) -> bool:
    return all(isinstance(each, str) for each in pair)


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
    if not _are_messages(step.observation):
        raise Unfit(f"shows {_shown(step.observation)} next: let a step's observation be messages, () for "
                    "none.")
    if not isinstance(step.notes, Mapping) or not all(map(_are_texts, step.notes.items())):
        raise Unfit(f"gives notes = {_shown(step.notes)}: make it a mapping of names to texts, {{}} for "
                    "none.")
    info = {name: _number(value, f"info[{name!r}]") for name, value in step.info.items()}
    return Step(_number(step.reward, "a reward"), bool(step.done), info, tuple(map(dict, step.observation)),
                None if achieved is None else tuple(achieved), dict(step.notes), bool(step.truncated))


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
