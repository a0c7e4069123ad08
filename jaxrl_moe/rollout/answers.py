"""What environments and agents say to the driver of episodes, and how it waits for that."""
import abc
import contextlib
import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import Any

from jaxrl_moe.protocols import Task
from jaxrl_moe.rollout.graders import Job
from jaxrl_moe.rollout.grades import named
from jaxrl_moe.types import EnvError, Messages, Prompt, Status, Step

Key = tuple[int, int]  # an episode's draw number, and which of its group's it is
_LOOK = 0.05           # seconds between two looks at the clock while nothing is answered


@dataclasses.dataclass(frozen=True)
class Answer:
    """What an environment says.

    Attributes:
      key: the episode's.
      messages: how it begins.
      step: what it says to an action; None: it has begun.
      status: of a failure; None: there was none.
      message: what went wrong.
      seconds: that it took.
    """
    key: Key
    messages: Messages = ()
    step: Step | None = None
    status: Status | None = None
    message: str = ""
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        """Values that other processes can read."""
        return dataclasses.asdict(self)


def from_plain(values: dict[str, Any]) -> Answer:
    """The other way."""
    step = values["step"] and dict(values["step"])
    if step:
        step["observation"] = tuple(step["observation"])
        step["achieved"] = None if step["achieved"] is None else tuple(step["achieved"])
    status = values["status"] and Status(values["status"])
    return Answer(**{**values, "key": tuple(values["key"]), "messages": tuple(values["messages"]),
                     "step": step and Step(**step), "status": status})


class Answering(abc.ABC):
    """Whoever was asked something for episodes, and answers in any order. One thread asks and takes.

    Args:
      task: whose episodes they are.
      changed: notified where an answer may be there; None: one of its own.
    """

    def __init__(self, task: Task, changed: threading.Condition | None = None):
        self._task = task
        self._changed = changed or threading.Condition()
        self._closing: list[tuple[Prompt, Job]] = []

    @property
    @abc.abstractmethod
    def outstanding(self) -> list[Key]:
        """Episodes that were asked something and have not answered."""

    @abc.abstractmethod
    def _over(self, key: Key) -> bool:
        """Whether an outstanding one has answered, or is given up."""

    @abc.abstractmethod
    def _taken(self, key: Key) -> Answer:
        """The answer of one that is over, which is outstanding no longer."""

    def answers(self, wanted: Sequence[Key], timeout: float | None) -> list[Answer]:
        """Takes answers that are there, in order of their keys.

        Args:
          wanted: takes these, and waits until they are there; empty: takes whatever is, and waits for one.
          timeout: seconds to wait at most; None: however long it takes.

        Raises:
          GradeError: a task that broke and would break again, be it while it closed an episode.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._enough(wanted) and (until is None or time.monotonic() < until):
                self._changed.wait(_LOOK)
        asked = set(self.outstanding)
        answers = [self._taken(key) for key in sorted(asked & set(wanted or asked)) if self._over(key)]
        self._check_closed()
        return answers

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _enough(self, wanted: Sequence[Key]) -> bool:
        asked = set(self.outstanding)
        over = [self._over(key) for key in asked & set(wanted or asked)]
        return all(over) if wanted else any(over) or not over

    def _check_closed(self) -> None:
        """Raises what a task's own code raised in close(); a server that is gone need not be told."""
        closed = [(prompt, job) for prompt, job in self._closing if job.done]
        self._closing = [(prompt, job) for prompt, job in self._closing if not job.done]
        for prompt, job in closed:
            with contextlib.suppress(EnvError), named(prompt, self._task):
                if job.error is not None:
                    raise job.error
