"""A judge of kernels that runs nothing, and problems that it is asked about."""
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Timing, Verdict
from jaxrl_moe.types import Action

PROBLEM = '''"""Twice."""
import torch
from torch import nn

ROWS = 64
SMALL = {"ROWS": 3}
VARIANTS = [{"ROWS": 1}]


class Model(nn.Module):
    def forward(self, x):
        return 2 * x


def get_inputs():
    return [torch.randn(ROWS)]


def get_init_inputs():
    return []
'''
RIGHT = Verdict(Basis.INTERPRETER, compiled=True, correct=True, trials=5, target="sm_90")
WRONG = Verdict(Basis.INTERPRETER, compiled=True, fault=Fault.MISMATCH, message="The output differs.")
BROKEN = Verdict(Basis.INTERPRETER, fault=Fault.NOT_COMPILED, message="line 3: no such name")
REFUSED = Verdict(Basis.SOURCE, fault=Fault.REFUSED, message="line 1: `eval` is not allowed.")


def timed(speedup, quarantined=False):
    """A verdict on a correct kernel that is so many times as fast as its reference."""
    timing = Timing(1.0, 1.0, 1.0, 100, speedup, None)
    return Verdict(Basis.DEVICE, compiled=True, correct=True, trials=5, timing=timing,
                   quarantined=quarantined)


class ScriptedJudge:
    """Gives verdicts, or raises errors, in their order.

    Attributes:
      asked: (problem, source, seed) of each call.
    """

    def __init__(self, *verdicts):
        self._left = list(verdicts)
        self.asked = []
        self.closed = 0

    def verdict(self, problem, source, seed):
        self.asked.append((problem, source, seed))
        given = self._left.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    def close(self):
        self.closed += 1


def judged_by(task, judge):
    """The task, whose candidates this one judges."""
    task._judge = judge
    return task


def code(source, before=""):
    """An answer whose code is this."""
    return Action(f"{before}```python\n{source}\n```", 9, False)
