"""Baselines are measured once for each problem, GPU and version of torch; one that is missing says why."""
import concurrent.futures
import dataclasses
import functools
import json

import pytest

from jaxrl_moe.envs.kernels.verdicts.baselines import Baseline, Baselines
from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.types import UserError

PROBLEM = Judged("a problem", ({"ROWS": 3, "COLUMNS": 4},))
OTHERS = [dataclasses.replace(PROBLEM, source="another"), dataclasses.replace(PROBLEM, sizes=({"ROWS": 4},)),
          dataclasses.replace(PROBLEM, sizes=())]


class Clock:
    """Measures 1, 2, 3, ... milliseconds, or raises."""

    def __init__(self, error=None):
        self.measured = []
        self.error = error

    def __call__(self, problem):
        self.measured.append(problem)
        if self.error:
            raise self.error
        return Baseline(float(len(self.measured)), len(self.measured) / 2)


def test_a_problem_is_measured_once_and_another_by_itself():
    clock = Clock()
    table = Baselines(None, "H100", "2.13")
    first = table.get(PROBLEM, clock)
    assert first == Baseline(1.0, 0.5) == table.get(PROBLEM, clock)
    same = Judged("a problem", ({"COLUMNS": 4, "ROWS": 3},), trials=9)  # it is the same reference
    assert table.get(same, clock) == first
    assert [table.get(each, clock).eager_ms for each in OTHERS] == [2.0, 3.0, 4.0]
    assert clock.measured == [PROBLEM, *OTHERS]


def test_a_file_keeps_them_for_the_same_gpu_and_the_same_torch(tmp_path):
    path = tmp_path / "baselines.json"
    assert Baselines(path, "H100", "2.13").get(PROBLEM, Clock()) == Baseline(1.0, 0.5)
    again = Clock()
    assert Baselines(path, "H100", "2.13").get(PROBLEM, again) == Baseline(1.0, 0.5) and not again.measured
    for gpu, torch in (("H200", "2.13"), ("H100", "2.14")):
        other = Clock()
        Baselines(path, gpu, torch).get(PROBLEM, other)
        assert other.measured == [PROBLEM]
    assert len(json.loads(path.read_text())["baselines"]) == 3


def test_what_cannot_be_measured_says_why_and_is_tried_again(tmp_path):
    path = tmp_path / "baselines.json"
    clock = Clock(RuntimeError("CUDA out of memory"))
    table = Baselines(path, "H100", "2.13")
    for count in (1, 2):
        got = table.get(PROBLEM, clock)
        assert (got.eager_ms, got.compiled_ms) == (None, None) and "CUDA out of memory" in got.missing
        assert len(clock.measured) == count
    assert not path.exists()
    clock.error = None
    assert table.get(PROBLEM, clock) == Baseline(3.0, 1.5)


def test_half_a_baseline_is_told_and_not_kept():
    half = Baseline(2.0, None, "torch.compile fails")
    told = [half, Baseline(2.0, 1.0)]
    table = Baselines(None, "H100", "2.13")

    def measure(problem):
        return told.pop(0)
    assert table.get(PROBLEM, measure) == half
    assert table.get(PROBLEM, measure) == Baseline(2.0, 1.0) == table.get(PROBLEM, measure)


def test_several_who_ask_at_once_and_several_files_users_lose_nothing(tmp_path):
    path = tmp_path / "baselines.json"
    clocks = [Clock(), Clock()]
    tables = [Baselines(path, "H100", "2.13") for _ in clocks]

    def get(place, problem):
        return tables[place].get(problem, clocks[place])
    problems = [Judged(str(number)) for number in range(12)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        got = list(threads.map(functools.partial(get, 0), problems * 3))
        list(threads.map(functools.partial(get, 1), problems[:3]))
        list(threads.map(lambda number: get(number % 2, Judged(f"both {number}")), range(10)))
    assert sorted(map(id, clocks[0].measured[:12])) == sorted(map(id, problems))
    assert got[:12] == got[12:24] == got[24:]
    fresh = Clock()
    third = Baselines(path, "H100", "2.13")
    for problem in [*problems, *(Judged(f"both {number}") for number in range(10))]:
        third.get(problem, fresh)
    assert not fresh.measured


@pytest.mark.parametrize("times", [(0.0, 1.0, ""), (1.0, -1.0, ""), (float("inf"), 1.0, ""),
                                   (float("nan"), 1.0, ""), (None, 1.0, ""), (1.0, 2.0, "why")])
def test_a_baseline_that_cannot_be_is_refused(times):
    with pytest.raises(ValueError):
        Baseline(*times)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "baselines": {}}', '{"format": 1}',
                                  '{"format": 1, "baselines": {"a": {"eager_ms": 0, "compiled_ms": 1}}}',
                                  '{"format": 1, "baselines": {"a": {"eager_ms": 1}}}'])
def test_a_file_that_is_none_of_ours_is_refused_and_left_as_it_is(tmp_path, text):
    path = tmp_path / "baselines.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"baselines\.json"):
        Baselines(path, "H100", "2.13")
    assert path.read_text() == text


def test_a_file_that_cannot_be_written_is_an_error_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    table = Baselines(tmp_path / "file" / "baselines.json", "H100", "2.13")
    with pytest.raises(UserError, match="cannot be kept"):
        table.get(PROBLEM, Clock())
