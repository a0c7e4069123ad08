"""Tasks that grade one completion: an episode of one step."""
import abc
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.protocols import Env, Task
from jaxrl_moe.types import Action, Messages, Step, UserError


class SingleTurnTask(Task):
    """A task whose whole episode is one completion of the row's prompt. What it needs is check_row and grade.

    grade must not change the task where it is concurrent: several threads call it at once.
    """
    concurrent: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    @abc.abstractmethod
    def grade(self, row: Mapping[str, Any], action: Action) -> Step:
        """Scores one completion of one data row; only the completion is looked at, never the prompt. Its step
        is the last."""

    def open(self, row: Mapping[str, Any], seed: int) -> "OneStep":
        """An episode of one step; nothing in it is left to chance, so the seed decides nothing."""
        return OneStep(self, row)

    def close(self) -> None:
        """There is nothing to free."""


class OneStep(Env):
    """The episode of a SingleTurnTask."""

    def __init__(self, task: SingleTurnTask, row: Mapping[str, Any]):
        self._task = task
        self._row = row
        self._ended = False

    def reset(self) -> Messages:
        """Nothing: the row's own prompt is all that the policy is shown."""
        return ()

    def step(self, action: Action) -> Step:
        """The grade of the completion."""
        if self._ended:
            raise UserError("This episode has ended: open another one.")
        self._ended = True
        return self._task.grade(self._row, action)

    def close(self) -> None:
        """There is nothing to free."""
        self._ended = True
