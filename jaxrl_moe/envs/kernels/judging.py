"""Who judges a task's candidates: an evaluation server, or sandboxes of this machine."""
import contextlib
import dataclasses
import importlib.util
import os
import sys

from jaxrl_moe.envs.kernels.verdicts import client
from jaxrl_moe.envs.kernels.verdicts.client import RemoteJudge
from jaxrl_moe.envs.kernels.verdicts.judge import Judge, Trials
from jaxrl_moe.envs.kernels.verdicts.pool import Pool
from jaxrl_moe.sandbox.working import working_way
from jaxrl_moe.types import UserError

SECONDS = 60.0  # that a candidate may take, of sandboxes of this machine

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


def make_judge(settings: JudgeSettings) -> Judge:
    """Who judges; nothing is started or asked yet.

    Raises:
      UserError: nothing can be shut in on this machine.
    """
    if settings.url:
        return _remote(settings)
    trials = Trials(settings.trials, settings.timed)
    return Pool(settings.workers, settings.interpreter, seconds=settings.seconds or SECONDS, trials=trials)


def _remote(settings: JudgeSettings) -> RemoteJudge:
    return RemoteJudge(settings.url, settings.key, settings.seconds or client.SECONDS,
                       trials=Trials(settings.trials, settings.timed), timed=bool(settings.timed))


def ready(settings: JudgeSettings) -> None:
    """Raises UserError where candidates could not be judged."""
    if settings.url:
        with contextlib.closing(_remote(settings)) as judge:
            judge.meet()
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
