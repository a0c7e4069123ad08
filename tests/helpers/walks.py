"""A task of several turns for models that know nothing: whatever they write moves a walker along a line."""
import dataclasses
import os
import pathlib
import signal
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.protocols import Env, Task
from jaxrl_moe.types import Action, EnvError, Messages, Status, Step, UserError

FAR = 3  # where a walk ends


@dataclasses.dataclass
class Walk(Task):
    """Each turn is a step to the right where an even number of letters was written, else to the left; worth
    0.1 to the right.

    Attributes:
      max_turns: turns.
      fails: of the episodes one in so many fails in reset(); 0: none.
      kill_at: the process is killed in the step() of this number, unless `killed` is there; 0: never.
      killed: a file that is made then.
      sure: whether the task says that it is deterministic.
    """
    max_turns: int = 4
    fails: int = 0
    kill_at: int = 0
    killed: str = ""
    sure: bool = True
    lowest_reward: ClassVar[float] = 0.0
    concurrent: ClassVar[bool] = True

    def __post_init__(self):
        self.deterministic = self.sure
        self.opened = 0
        self.stepped = 0
        self.closed = 0
        self.lock = threading.Lock()

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        if not row.get("answer"):
            raise UserError("A walk needs an answer.")

    def open(self, row: Mapping[str, Any], seed: int) -> "Walking":
        with self.lock:
            self.opened += 1
            failing = self.fails and self.opened % self.fails == 0
        return Walking(self, bool(failing))

    def count_step(self) -> None:
        with self.lock:
            self.stepped += 1
            last = self.stepped == self.kill_at and not os.path.exists(self.killed)
        if last:
            pathlib.Path(self.killed).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def close(self) -> None:
        pass


class Walking(Env):
    def __init__(self, task: Walk, failing: bool):
        self._task = task
        self._failing = failing
        self._place = 0
        self._over = False

    def reset(self) -> Messages:
        if self._failing:
            raise EnvError(Status.RESET_FAILED, "the line is broken")
        return ({"role": "user", "content": "You are at 0."},)

    def step(self, action: Action) -> Step:
        if self._over:
            raise UserError("The walk is over.")
        self._task.count_step()
        right = sum(map(str.isalpha, action.text)) % 2 == 0
        self._place += 1 if right else -1
        self._over = abs(self._place) >= FAR
        said = () if self._over else ({"role": "user", "content": f"You are at {self._place}."},)
        return Step(0.1 * right, self._over, {"correct": float(self._place == FAR)}, said)

    def close(self) -> None:
        with self._task.lock:
            self._task.closed += 1
