"""Timing, with this machine's clock in the place of a GPU's: what a call takes, its output compared each
time, and a clock within that is held against ours."""
import dataclasses

import pytest

from jaxrl_moe.envs.kernels.verdicts import evaluator as evaluating
from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Fault
from jaxrl_moe.types import UserError
from tests.helpers.kernel_cheats import HONEST, RELU2, candidate
from tests.helpers.kernel_judges import NEEDED, evaluator

PROBLEM = Judged(RELU2, ({"ROWS": 2},), timed=3)
SLOW = RELU2.replace("return torch.relu(x)", "time.sleep(0.02)\n        return torch.relu(x)").replace(
    "import torch\n", "import time\nimport torch\n", 1)


@pytest.fixture(scope="module")
def judge():
    with evaluator() as made:
        yield made


@pytest.fixture
def any_source(monkeypatch):
    """What a source says is not looked at."""
    monkeypatch.setattr(evaluating, "refusals", lambda source: [])


@NEEDED
def test_an_honest_one_is_timed_and_the_reference_likewise(judge):
    timing = judge.verdict(PROBLEM, HONEST, 1).timing
    assert 0 < timing.least_ms <= timing.median_ms <= timing.most_ms and timing.trials == 3
    slow = judge.baseline(dataclasses.replace(PROBLEM, source=SLOW), 1, compiled=False, calls=3)
    assert 20 < slow.least <= slow.median <= slow.most


@NEEDED
def test_who_is_wrong_is_not_timed(judge):
    verdict = judge.verdict(PROBLEM, HONEST.replace("0.0) * w", "0.0) + w"), 1)
    assert (verdict.fault, verdict.timing) == (Fault.MISMATCH, None)


@NEEDED
def test_outputs_of_calls_that_are_timed_are_compared_too(judge, any_source):
    lazy = candidate("""
import builtins
builtins.calls = getattr(builtins, "calls", 0) + 1
return right(x, self.weight) if builtins.calls < 6 else torch.zeros_like(x)""")
    untimed = dataclasses.replace(PROBLEM, trials=2, timed=0)
    assert judge.verdict(untimed, lazy, 1).correct
    verdict = judge.verdict(dataclasses.replace(untimed, timed=3), lazy, 1)
    assert (verdict.fault, verdict.timing) == (Fault.MISMATCH, None)


@NEEDED
def test_a_clock_that_was_turned_back_is_not_believed(judge, any_source):
    forged = candidate("""
import time
time.perf_counter_ns = lambda ticks=iter(range(10**9)): next(ticks)
time.sleep(0.02)
return right(x, self.weight)""")
    assert judge.verdict(PROBLEM, forged, 1).fault == Fault.CLOCK


@NEEDED
def test_a_problem_that_cannot_run_is_the_problem_s_fault(judge):
    broken = Judged(RELU2.replace("torch.relu(x)", "x @ x"), timed=1)
    with pytest.raises(UserError, match="The problem's own file"):
        judge.baseline(broken, 1, compiled=False, calls=1)
