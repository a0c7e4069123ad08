"""What `make kernels-crowd` looks for is seen; and, where there is time and Triton, a small one of it."""
import ast
import collections
import dataclasses
import os

import pytest

from benchmarks.soak import kernels
from benchmarks.soak.candidates import KINDS, PROBLEM, RIGHT
from jaxrl_moe.envs.kernels.verdicts.verdict import Fault
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.kernel_judges import NEEDED
from tests.helpers.kernel_workers import VERDICT, ScriptedWorker


def asked(said, *seeds):
    """What came of candidates of the first kind, of which it is said what a test lets be said."""
    worker = ScriptedWorker(said={RIGHT: said})

    class Judge:
        def verdict(self, problem, source, seed):
            return worker.verdict(problem, source, seed, None)
    seen = kernels.Asked(Judge())
    for seed in seeds:
        seen.ask(KINDS[0], seed)
    return seen


def test_a_verdict_that_its_kind_is_not_to_get_is_seen():
    well = asked(VERDICT, 1, 2, 3)
    assert not well.problems and well.got["right"] == {"none": 3} and len(well.took) == 3
    for said, name in ((dataclasses.replace(VERDICT, correct=False, fault=Fault.CRASHED), "crashed"),
                       (EnvError(Status.UNREACHABLE, "gone"), "no verdict"),
                       (UserError("its file"), "problem refused")):
        [problem] = asked(said, 1).problems
        assert problem.startswith(f"right: {name} in place of none")


def test_all_kinds_are_asked_in_the_order_of_chance_and_as_many_as_are_wanted():
    kinds = kernels.order(200)
    counts = collections.Counter(kind.name for kind in kinds)
    assert len(kinds) == 200 and counts.keys() == {kind.name for kind in KINDS}
    assert counts["right"] > 40 and counts["loop"] > 3 and kinds != sorted(kinds, key=lambda kind: kind.name)
    assert len(kernels.order(len(KINDS))) == len(KINDS)


def test_each_kind_is_a_candidate_of_its_own():
    assert len({(kind.source, kind.problem.source) for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        if kind.name != "syntax":
            ast.parse(kind.source)
        assert (kind.source == RIGHT) == (kind.name in ("right", "fork_bomb", "broken"))
        assert (kind.problem == PROBLEM) != (kind.verdicts == ("problem refused",))
        assert set(kind.verdicts) <= {"none", "problem refused", *Fault}


@pytest.mark.parametrize("after, left, pids, wrong", [
    (105.0, 9, set(), ""), (120.0, 9, set(), "120 MiB"), (100.0, 10, set(), "10 processes are there"),
    (100.0, 9, {os.getpid()}, "1 processes are alive")])
def test_what_is_left_and_what_has_grown_is_seen(monkeypatch, after, left, pids, wrong):
    monkeypatch.setattr(kernels, "ENDED_S", 0.1)
    problems = list(kernels._wrong(100.0, after, 9, left, pids))
    assert problems == [] if not wrong else len(problems) == 1 and wrong in problems[0]


@NEEDED
@pytest.mark.slow
def test_one_candidate_of_each_kind_goes_well():
    row, kinds, problems = kernels.soaked(len(KINDS), 1, 30.0)
    assert not problems and len(row) == len(kernels.HEADER) and len(kinds) == len(KINDS)
