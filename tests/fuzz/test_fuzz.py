"""Damaged inputs are refused in a clear paragraph, or read for what they say: see runner.py, and `python -m
tests.fuzz --help` to repeat what failed."""
import pytest

from tests.fuzz import many, runner
from tests.fuzz.report import report
from tests.fuzz.targets.table import TARGETS

FEW = 15       # inputs of a target in make test
MANY = 5000    # of all targets in make test-slow
THOUSAND = 1000  # of each environment server
SLOW = {"commands"}  # whole processes: in make test-slow alone


def shown(failures, name, count):
    return report(failures, {name: count}).encode("ascii", "backslashreplace").decode()


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in SLOW])
def test_a_few_damaged_inputs_are_refused_or_read_for_what_they_say(name):
    target = TARGETS[name]()
    with runner.opened(target) as arena:
        failures = list(filter(None, (runner.run(target, arena, 0, index) for index in range(FEW))))
    assert not failures, shown(failures, name, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_many_damaged_inputs_are_refused_or_read_for_what_they_say(name):
    count = many.shares(None, MANY)[name]
    failures = many.run(name, 1, 0, count)
    assert not failures, shown(failures, name, count)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TARGETS if name.startswith("envs")
                                  or name in ("rollouts", "kernels")])
def test_a_thousand_damaged_calls_of_each_environment_server_leave_it_as_it_was(name):
    failures = many.run(name, 2, 0, THOUSAND)
    assert not failures, shown(failures, name, THOUSAND)
