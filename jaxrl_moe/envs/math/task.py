"""Mathematics as a task: MATH, DAPO-17k and AIME rows, whose answers are compared by math-verify."""
import dataclasses
import importlib.util
import math
import pathlib
import sys
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.envs.answers import answer_part, last_box
from jaxrl_moe.envs.bounds import check_least
from jaxrl_moe.envs.math.gold import gold_answer
from jaxrl_moe.envs.processes import WorkerError, WorkerPool, WorkerStartError
from jaxrl_moe.envs.single_turn import SingleTurnTask
from jaxrl_moe.types import Action, EnvError, Status, Step, UserError

LEAST_MEMORY = 256    # MiB; less do the package and SymPy not bear
LONGEST_ANSWER = 2000  # characters that are read of what stands in no box, from its end
LONGEST_BOX = 1000     # characters of a box; what is longer is no answer
_WORKER = pathlib.Path(__file__).with_name("worker.py")


@dataclasses.dataclass
class Mathematics(SingleTurnTask):
    r"""Reward 1 where the completion's answer and the row's are the same mathematics, else 0: 1/2 is 0.5, and
    {1, 2} is {2, 1}. The answer is that of the last \boxed{...}; without any, the last that math-verify
    finds.

    It runs in processes of its own: what a policy writes, such as 9^9^9^9, can take it forever. One that
    takes too long, or too much memory, is killed and replaced, and its answer is worth 0.

    Attributes:
      boxed: an answer counts only in a box.
      timeout: seconds that a comparison may take.
      workers: processes, started when they are needed.
      memory: MiB of addresses that each may have.

    Raises:
      UserError: a number is out of range.
    """
    boxed: bool = False
    timeout: float = 10.0
    workers: int = 4
    memory: int = 1024
    lowest_reward: ClassVar[float] = 0.0
    deterministic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.timeout) or self.timeout <= 0:
            raise UserError(f"timeout = {self.timeout} is out of range: it must be a number of seconds above "
                            "0.")
        check_least(self, workers=1, memory=LEAST_MEMORY)
        self._lock = threading.Lock()
        self._pool: WorkerPool | None = None

    def ready(self) -> None:
        """Raises UserError where the package math-verify is not installed."""
        if importlib.util.find_spec("math_verify") is None:
            raise UserError("The task math compares answers by the package math-verify, which is not "
                            "installed: pip install 'jaxrl-moe[math]'.")

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row without an answer."""
        gold_answer(row)

    def grade(self, row: Mapping[str, Any], action: Action) -> Step:
        """Compares one completion's answer with the row's. info: "correct", "answered", whether there was an
        answer, "timed_out", and "failed", whether its comparison ended in any other way, as for memory.

        Raises:
          UserError: the row has no answer, or math-verify is not installed.
          EnvError: a process could not be started.
        """
        gold = gold_answer(row)
        answer = self._answer(answer_part(action.text))
        told = dict.fromkeys(("correct", "answered", "timed_out", "failed"), 0.0)
        if answer is not None:
            told |= self._compared(gold, answer)
        return Step(told["correct"], info=told)

    def close(self) -> None:
        """Kills the processes; a second time it does nothing."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool:
            pool.close()

    def _answer(self, text: str) -> str | None:
        """What is compared; None where there is no answer."""
        box = last_box(text)
        if box is None:
            return None if self.boxed or not text.strip() else text[-LONGEST_ANSWER:]
        return f"\\boxed{{{box}}}" if box.strip() and len(box) <= LONGEST_BOX else None

    def _compared(self, gold: str, answer: str) -> dict[str, float]:
        if answer == f"\\boxed{{{gold}}}":
            return {"correct": 1.0, "answered": 1.0}
        try:
            verdict = self._processes().ask({"gold": f"\\boxed{{{gold}}}", "answer": answer}, self.timeout)
        except WorkerError as error:
            return {"answered": 1.0, "timed_out" if error.timed_out else "failed": 1.0}
        except WorkerStartError as error:
            raise EnvError(Status.UNREACHABLE, f"A process that compares answers: {error}") from error
        return {name: float(verdict.boolean(name)) for name in ("correct", "answered")}

    def _processes(self) -> WorkerPool:
        with self._lock:
            if self._pool is None:
                self.ready()
                self._pool = WorkerPool([sys.executable, "-P", str(_WORKER), str(self.memory * 2**20),
                                         str(self.timeout)], self.workers)
            return self._pool
