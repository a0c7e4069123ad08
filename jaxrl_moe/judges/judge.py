"""What a judge is to those who need one, model or person: works go in at any time, verdicts come when they
come."""
import abc

from jaxrl_moe.judges.records import Ask, Verdict, Work
from jaxrl_moe.types import UserError


class JudgeError(UserError):
    """A judge could not say anything of a work. That says nothing about the work."""


class TakenBack(JudgeError):
    """The item was dropped, and is judged if its work is handed in again."""


class Judge(abc.ABC):
    """Takes works and says what they are worth. Any thread may call it."""

    @abc.abstractmethod
    def submit(self, work: Work, ask: Ask) -> str:
        """Hands in a work and returns its item's id. The same work under the same rubric and mode has the
        same item, whoever hands it in and how often: it is judged once. Under a mode that compares, `group`
        counts too.

        Raises:
          UserError: it cannot be judged so.
        """

    @abc.abstractmethod
    def verdict(self, item: str, wait: float = 0.0) -> Verdict | None:
        """The verdict of an item, for which it waits so many seconds at most; None: there is none yet.

        Raises:
          TakenBack: it was dropped.
          JudgeError: there will be none.
          KeyError: there is no such item.
        """

    @abc.abstractmethod
    def drop(self, item: str, why: str) -> None:
        """Nobody waits for an item any more: the judge is spared what can be spared. Nothing happens to one
        that has its verdict, and one that is handed in again is judged.

        Raises:
          KeyError: there is no such item.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Frees what it holds; items that wait stay, where the judge keeps them."""
