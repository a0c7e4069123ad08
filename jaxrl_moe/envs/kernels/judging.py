"""Who judges a task's candidates: an evaluation server, or sandboxes of this machine."""
import dataclasses
import importlib.util
import os
import sys
from typing import TYPE_CHECKING

from jaxrl_moe.types import UserError

if TYPE_CHECKING:
    from jaxrl_moe.envs.kernels.verdicts.judge import Judge


@dataclasses.dataclass(frozen=True)
class JudgeSettings:
    """Of a task: see TritonKernels. `key` is the API key itself; timed 0: nothing is timed."""
    url: str
    key: str
    seconds: float
    workers: int
    python: str
    trials: int
    timed: int

    @property
    def interpreter(self) -> str:
        """Python's, of the sandboxes."""
        return self.python or sys.executable


def make_judge(settings: JudgeSettings) -> "Judge":
    """Who judges; nothing is started or asked yet.

    Raises:
      UserError: nothing can be shut in on this machine.
    """
    from jaxrl_moe.envs.kernels.verdicts.client import SECONDS, RemoteJudge
    from jaxrl_moe.envs.kernels.verdicts.judge import Trials
    from jaxrl_moe.envs.kernels.verdicts.pool import Pool
    trials = Trials(settings.trials, settings.timed)
    if settings.url:
        return RemoteJudge(settings.url, settings.key, settings.seconds or SECONDS, trials=trials,
                           timed=bool(settings.timed))
    return Pool(settings.workers, settings.interpreter, seconds=settings.seconds or 60.0, trials=trials)


def ready(settings: JudgeSettings) -> None:
    """Raises UserError where candidates could not be judged."""
    from jaxrl_moe.envs.kernels.verdicts.client import RemoteJudge
    from jaxrl_moe.sandbox.working import working_way
    if settings.url:
        judge = make_judge(settings)
        try:
            assert isinstance(judge, RemoteJudge)
            judge.meet()
        finally:
            judge.close()
        return
    working_way()
    if settings.python:
        if not os.access(settings.python, os.X_OK):
            raise UserError(f"python = {settings.python!r} is no program: give the interpreter of an "
                            "environment that has torch and Triton.")
        return
    lacking = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
    if lacking:
        raise UserError(f"Kernels are judged by torch and Triton, and {' and '.join(lacking)} is not "
                        "installed: pip install 'jaxrl-moe[kernels]', give python=... of an environment that "
                        "has them, or url=... of an evaluation server.")
