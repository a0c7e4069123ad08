"""All problems through the judge: their solutions are right, and are not with a fault of any class."""
import pytest

from tests.helpers.kernel_faults import FAULTS, planted
from tests.helpers.kernel_judges import NEEDED, evaluator
from tests.helpers.kernel_sets import NAMES, problem, solution


@pytest.fixture(scope="module")
def judge():
    with evaluator(seconds=120.0) as made:
        yield made


@NEEDED
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_solution_is_right(judge):
    verdicts = {name: judge.verdict(problem(name), solution(name), 0) for name in NAMES}
    assert not {name: each for name, each in verdicts.items() if not each.correct}


@NEEDED
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_solution_is_right_with_a_fault(fault, judge):
    verdicts = {name: judge.verdict(problem(name), planted(solution(name), fault), 0) for name in NAMES}
    assert not [name for name, each in verdicts.items() if each.correct or each.fault is None]
