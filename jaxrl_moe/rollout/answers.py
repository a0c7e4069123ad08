"""What environments and agents say to the driver of episodes, and how it waits for that."""
import abc
import contextlib
import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import Any

from jaxrl_moe.protocols import AgentEpisode, Env
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.rollout.graders import Graders, Job
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
      final: whether it would go wrong again.
      seconds: that it took.
    """
    key: Key
    messages: Messages = ()
    step: Step | None = None
    status: Status | None = None
    message: str = ""
    final: bool = False
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


@dataclasses.dataclass
class Held:
    """An episode in somebody's hands.

    Attributes:
      env: what the task has opened.
      job: what its thread is at, or was last.
    """
    prompt: Prompt
    env: Env | AgentEpisode | None = None
    job: Job | None = None

    def close(self) -> None:
        """Closes what the task has opened; a second time it does nothing."""
        env = self.env
        self.env = None
        if env is not None:
            env.close()


class Answering(abc.ABC):
    """Whoever was asked something for episodes, and answers in any order. One thread asks and takes.

    Args:
      episodes: the task and its limits.
      changed: notified where an answer may be there; None: one of its own.
    """

    def __init__(self, episodes: Episodes, changed: threading.Condition | None = None):
        self._episodes = episodes
        self._task = episodes.task
        self._changed = changed or threading.Condition()
        self._threads = Graders(episodes.threads, self._notify)
        self._held: dict[Key, Held] = {}
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

    def end(self, key: Key) -> None:
        """Closes what an episode holds, without waiting for whoever is at it."""
        held = self._held.pop(key, None)
        if held is None or held.env is None and held.job is None:
            return
        if held.job is None or not self._threads.give_up(held.job, held.close):
            self._closing.append((held.prompt, Job(held.close)))
            self._threads.put(self._closing[-1][1])

    def close(self) -> None:
        """Ends all episodes, without waiting for those that hang."""
        for key in list(self._held):
            self.end(key)
        self._threads.close()

    def _beyond(self, seconds: float, in_all: float) -> bool:
        """Whether an answer, or all of an episode's, has taken longer than the settings allow."""
        settings = self._episodes.settings
        whole = settings.episode_timeout
        return seconds > settings.step_timeout or bool(whole) and in_all > whole

    @property
    def _limits(self) -> str:
        """The time-outs, for a message."""
        settings = self._episodes.settings
        return (f"(episodes.step_timeout = {settings.step_timeout:g} s, episode_timeout = "
                f"{settings.episode_timeout:g} s)")

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
