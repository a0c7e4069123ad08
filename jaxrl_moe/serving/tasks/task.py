"""What a task app serves: a task whose instances are numbered, and whose episodes a policy plays by writing
something and revising it."""
import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.judges.records import Part
from jaxrl_moe.judges.rubric import Rubric
from jaxrl_moe.serving.tasks.stop import Stop
from jaxrl_moe.types import Messages, UserError


@dataclasses.dataclass(frozen=True)
class Look:
    """What came of a turn.

    Attributes:
      written: what the policy handed in, without what it said around it; empty: nothing.
      parts: it, as a judge is shown it; empty where there is nothing to be judged.
      checks: name of each rule -> whether it is kept.
      findings: the rules that are not, as the policy is told them.
    """
    written: str
    parts: tuple[Part, ...]
    checks: Mapping[str, bool]
    findings: tuple[str, ...]

    @property
    def score(self) -> float:
        """The share of the rules that are kept."""
        return sum(self.checks.values()) / len(self.checks)


class AppEpisode(abc.ABC):
    """One instance of a task, as one policy plays it.

    Attributes:
      brief: what is asked for, as the policy and judges read it.
      facts: of the instance, for /task_info.
    """
    brief: str
    facts: Mapping[str, Any]

    @abc.abstractmethod
    def begin(self) -> Messages:
        """What the policy is shown first; the brief is in the last message."""

    @abc.abstractmethod
    def look(self, text: str, stop: Stop) -> Look:
        """What came of an answer, which may hold anything at all.

        Args:
          stop: by which it can be ended.

        Raises:
          EnvError: that cannot be found out, through no fault of the policy.
        """


class AppTask(abc.ABC):
    """A task that a task app serves. Any thread may call it.

    Attributes:
      name: as clients know it.
      summary: of the task, in a sentence.
      tool: (name, what it takes, what it does) of what the policy does in a turn.
      count: of its instances, whose seeds are 0 to count - 1.
      max_turns: of an episode, unless a request says otherwise.
      rubric: by which a judge looks at the last turn.
      checks: name of each rule -> what it is.
    """
    name: ClassVar[str]
    summary: ClassVar[str]
    tool: ClassVar[tuple[str, str, str]]
    count: ClassVar[int]
    max_turns: ClassVar[int] = 2
    rubric: ClassVar[Rubric]
    checks: ClassVar[Mapping[str, str]]

    def open(self, seed: int) -> AppEpisode:
        """The instance of a seed. Raises UserError where there is none."""
        if seed >= self.count:
            raise UserError(f"There is no instance {seed} of {self.name}: it has {self.count}, numbered from "
                            "0.")
        return self._instance(seed)

    @abc.abstractmethod
    def _instance(self, seed: int) -> AppEpisode:
        """The instance of a seed that there is."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Makes sure that it can be played here. Raises UserError where it cannot."""
