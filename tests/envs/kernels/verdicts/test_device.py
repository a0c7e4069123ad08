"""The judge on a GPU: the interpreter's verdicts are the device's, and time is what it is. Needs torch for
CUDA."""
import dataclasses
import importlib.util
import math
import sys

import pytest

from jaxrl_moe.envs.kernels.verdicts import evaluator as evaluating
from jaxrl_moe.envs.kernels.verdicts.evaluator import Evaluator
from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis
from jaxrl_moe.envs.kernels.verdicts.warmed import Warmed
from jaxrl_moe.sandbox.records import Bounds
from jaxrl_moe.sandbox.working import working_way
from tests.helpers.kernel_cheats import CHEATS, HONEST, RELU2, candidate
from tests.helpers.kernel_judges import NEEDED
from tests.helpers.kernel_sets import NAMES, problem, solution

pytestmark = [pytest.mark.gpu, NEEDED]
BOUNDS = Bounds(memory_mib=2**15, process_mib=2**22, processes=512, seconds=math.inf, output_bytes=2**40,
                disk_bytes=2**30, file_bytes=2**30)
LARGE = Judged(RELU2.replace("ROWS = 4", "ROWS = 2**20"), timed=20)
SIDE = candidate("""
stream = torch.cuda.Stream()
stream.wait_stream(torch.cuda.current_stream())
with torch.cuda.stream(stream):
    return right(x, self.weight)""")


@pytest.fixture(scope="module")
def judge():
    torch = importlib.util.find_spec("torch") and importlib.import_module("torch")
    if not torch or not torch.cuda.is_available():
        pytest.skip("torch has no CUDA here")
    way = working_way()
    made = Evaluator(*(Warmed(mode, sys.executable, "cuda", BOUNDS, way)
                       for mode in ("reference", "candidate")),
                     None, seconds=300.0)
    yield made
    made.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_is_right_on_the_device_as_under_the_interpreter(name, judge):
    verdict = judge.verdict(dataclasses.replace(problem(name), trials=3), solution(name), 0)
    assert (verdict.correct, verdict.basis) == (True, Basis.DEVICE), verdict


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_found_on_the_device_too(name, judge, monkeypatch):
    monkeypatch.setattr(evaluating, "refusals", lambda source: [])
    assert not judge.verdict(Judged(RELU2, ({}, {"ROWS": 7})), CHEATS[name][0], 1).correct


def test_a_call_takes_its_time_on_a_side_stream_too(judge, monkeypatch):
    honest = judge.verdict(LARGE, HONEST, 1)
    monkeypatch.setattr(evaluating, "refusals", lambda source: [])
    aside = judge.verdict(LARGE, SIDE, 1)
    assert honest.timing and (not aside.correct or aside.timing.median_ms > 0.8 * honest.timing.median_ms)


def test_references_are_timed_eager_and_compiled(judge):
    eager, compiled = (judge.baseline(LARGE, 1, compiled=each, calls=10) for each in (False, True))
    assert 0 < compiled.median < 10 * eager.median
