"""A worker with a GPU holds a candidate's time against the reference's, and says where there is none."""
import dataclasses

import pytest

from jaxrl_moe.envs.kernels.verdicts.baselines import Baselines
from jaxrl_moe.envs.kernels.verdicts.judge import Trials
from jaxrl_moe.envs.kernels.verdicts.timing import Milliseconds
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Timing
from jaxrl_moe.envs.kernels.verdicts.warmed import GoneError
from jaxrl_moe.envs.kernels.verdicts.worker import LocalWorker
from jaxrl_moe.sandbox.records import Cause
from jaxrl_moe.sandbox.ways import Way
from jaxrl_moe.types import UserError
from tests.helpers.kernel_workers import RELU, RIGHT, VERDICT

TRIALS = Trials(4, 9)
TAKEN = Timing(2.0, 1.5, 3.0, 9, None, None)


class Fake:
    """An evaluator on a GPU that is none: a candidate takes 2 ms, a reference what it is told, or it
    raises."""

    def __init__(self, eager, compiled):
        self.times = {False: eager, True: compiled}
        self.asked = []

    def verdict(self, problem, source, seed):
        self.asked.append(problem)
        timing = TAKEN if problem.timed and source == RIGHT else None
        return dataclasses.replace(VERDICT, basis=Basis.DEVICE, timing=timing)

    def baseline(self, problem, seed, compiled, calls):
        self.asked.append((compiled, calls))
        told = self.times[compiled]
        if isinstance(told, Exception):
            raise told
        return Milliseconds(told, told, told, calls)


@pytest.fixture
def judged(monkeypatch):
    """Has a fake judge a candidate; nothing is started."""
    monkeypatch.setattr(LocalWorker, "_mend", lambda self: 0)

    def judged(fake, source=RIGHT, trials=TRIALS, baselines=None):
        monkeypatch.setattr("jaxrl_moe.envs.kernels.verdicts.worker.Evaluator", lambda *asked: fake)
        worker = LocalWorker(way=Way.BUBBLEWRAP, gpu="cuda:1", baselines=baselines)
        return worker.verdict(RELU, source, 0, trials)
    return judged


def test_a_speed_up_is_over_the_faster_of_both_baselines_which_are_measured_once(judged):
    fake = Fake(6.0, 5.0)
    table = Baselines(None, "H100", "2.13")
    for _ in range(2):
        verdict = judged(fake, baselines=table)
        assert verdict.timing == dataclasses.replace(TAKEN, eager_ms=6.0, compiled_ms=5.0)
        assert verdict.speedup == 2.5 and not verdict.quarantined
    problem = dataclasses.replace(RELU, trials=4, timed=9)
    assert fake.asked == [problem, (False, 9), (True, 9), problem]


def test_what_was_not_timed_has_no_baseline(judged):
    fake = Fake(6.0, 5.0)
    assert judged(fake, source="wrong").timing is None
    assert judged(fake, trials=Trials(4)).timing is None
    assert all(not isinstance(each, tuple) for each in fake.asked)


@pytest.mark.parametrize("eager, compiled, speedup, says", [
    (6.0, UserError("no graph"), 3.0, "no graph"),
    (GoneError("it took too long", Cause.TIME), 5.0, 2.5, "too long"),
    (UserError("a"), UserError("b"), None, "a; ")])
def test_a_baseline_that_cannot_be_measured_is_told_with_the_verdict(judged, eager, compiled, speedup, says):
    verdict = judged(Fake(eager, compiled))
    assert verdict.speedup == speedup and says in verdict.timing.missing


def test_a_speed_up_that_nobody_believes_is_put_in_quarantine(judged):
    assert judged(Fake(20.2, 30.0)).quarantined
    assert not judged(Fake(19.8, 30.0)).quarantined
    assert not judged(Fake(30.0, 19.8)).quarantined


def test_a_worker_without_a_gpu_times_nothing():
    with pytest.raises(UserError, match="no speed"):
        LocalWorker(way=Way.BUBBLEWRAP).verdict(RELU, RIGHT, 0, Trials(1, 1))
