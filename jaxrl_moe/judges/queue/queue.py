"""The queue that people judge from, as its users see it: runs put items in, the page hands them out and takes
answers."""
import abc
import dataclasses
from collections.abc import Mapping, Sequence

from jaxrl_moe.judges.records import Ask, Work
from jaxrl_moe.types import UserError


class QueueError(UserError):
    """The queue cannot do what it is asked: the lease is over, there is no such item, a judge may not."""


@dataclasses.dataclass(frozen=True)
class Lease:
    """An item in a judge's hands.

    Attributes:
      token: random; answers, renewals and returns name it.
      item: its id.
      works: what is shown, in the order in which it is shown: one under a rubric, two side by side, or a
        whole group. Nothing in them tells of the policy's version or of who is better.
      ask: the rubric and mode.
      until: time.time() at which it falls back to the queue.
    """
    token: str
    item: str
    works: tuple[Work, ...]
    ask: Ask
    until: float


@dataclasses.dataclass(frozen=True)
class Given:
    """What a judge answers.

    Attributes:
      scores: of each work of the lease, in its order: criterion -> score, under a rubric.
      order: positions of the lease's works, best first, where they are compared; ties share a tuple, as
        ((1,), (0, 2)).
      comment: in the judge's own words.
      seconds: that the judge looked at it.
    """
    scores: tuple[Mapping[str, float], ...] = ()
    order: tuple[tuple[int, ...], ...] = ()
    comment: str = ""
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class QueueProgress:
    """The queue in numbers, in which gold items count as the others do: items that wait, that are leased,
    that this judge has put off, that are done; the judge's own answers; runs that wait, with how many items
    each, and for how many seconds the oldest."""
    waiting: int
    leased: int
    postponed: int
    done: int
    answered: int
    runs: Mapping[str, int]
    oldest_seconds: float


@dataclasses.dataclass(frozen=True)
class JudgeAgreement:
    """How far judges agree, over items that several judged.

    Attributes:
      items: so many.
      cohen: (judge, judge, kappa) of each pair with common items.
      fleiss: kappa over all; NaN where it is not defined.
      gold: judge -> (right, of so many) on gold items.
      with_model: judge -> kappa with the AI judge on the same items.
    """
    items: int
    cohen: tuple[tuple[str, str, float], ...]
    fleiss: float
    gold: Mapping[str, tuple[int, int]]
    with_model: Mapping[str, float]


class Queue(abc.ABC):
    """Items, leases and answers. Any thread and any process may call it; it survives their end. What a judge
    does or asks for raises QueueError once they have been removed."""

    @abc.abstractmethod
    def login(self, token: str) -> str | None:
        """The name of the judge whose personal token it is, compared in constant time; None: nobody's."""

    @abc.abstractmethod
    def is_judge(self, name: str, since: float) -> bool:
        """Whether a judge who logged in at that time.time() may still go on: they have not been removed
        since, also where they were added anew."""

    @abc.abstractmethod
    def lease(self, judge: str, seconds: float) -> Lease | None:
        """Hands out the next item to a judge for so long: the one that they hold already, if any; gold items
        mixed in; none that they have judged, skipped, or put off for now. None: there is none for them."""

    @abc.abstractmethod
    def renew(self, judge: str, token: str, seconds: float) -> Lease:
        """Makes a lease last from now on. Raises QueueError where it is over."""

    @abc.abstractmethod
    def give_back(self, judge: str, token: str) -> None:
        """Returns an item to the queue, for anybody."""

    @abc.abstractmethod
    def skip(self, judge: str, token: str) -> None:
        """Returns an item, which this judge is not shown again."""

    @abc.abstractmethod
    def postpone(self, judge: str, token: str) -> None:
        """Returns an item, which this judge is shown again once there is nothing else."""

    @abc.abstractmethod
    def answer(self, judge: str, token: str, given: Given) -> None:
        """Keeps an answer. The same one a second time changes nothing; one that comes after the lease's end
        is kept too.

        Raises:
          QueueError: there was no such lease, or the judge has answered otherwise already.
          UserError: the answer does not fit the item.
        """

    @abc.abstractmethod
    def progress(self, judge: str) -> QueueProgress:
        """Where things stand."""

    @abc.abstractmethod
    def agreement(self) -> JudgeAgreement:
        """How far the judges agree."""

    @abc.abstractmethod
    def recent(self, judge: str, count: int) -> Sequence[tuple[float, float]]:
        """(time.time(), seconds looked at) of the judge's last answers, oldest first, for plots."""

    @abc.abstractmethod
    def close(self) -> None:
        """Frees connections."""
