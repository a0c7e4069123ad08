"""Problems without sizes for an interpreter, as KernelBench's are."""
import pytest

from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.types import UserError
from tests.helpers.kernel_cheats import HONEST, RELU2
from tests.helpers.kernel_judges import NEEDED, evaluator
from tests.helpers.kernel_sets import NAMES, problem, solution

LARGE = RELU2.replace("ROWS = 4", "ROWS = 2**22")


@pytest.fixture(scope="module")
def judge():
    with evaluator(seconds=120.0) as made:
        yield made


@NEEDED
def test_a_large_problem_is_judged_at_sizes_that_it_takes(judge):
    verdict = judge.verdict(Judged(LARGE), HONEST.replace("BLOCK=32", "BLOCK=64"), 1)
    assert verdict.correct, verdict
    heads = LARGE.replace("self.weight =", "assert columns % 12 == 0\n        self.weight =")
    assert judge.verdict(Judged(heads), HONEST, 1).correct


@NEEDED
def test_one_that_has_no_sizes_to_make_smaller_is_told_so(judge):
    with pytest.raises(UserError, match="could not be made smaller together.*SMALL"):
        judge.verdict(Judged(RELU2.replace("randn(ROWS,", "randn(2**22,")), HONEST, 1)


@NEEDED
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_our_own_problems_need_no_sizes_to_be_judged(judge):
    verdicts = {}
    for name in NAMES:
        try:
            verdicts[name] = judge.verdict(Judged(problem(name).source, trials=2), solution(name), 0)
        except UserError as error:
            verdicts[name] = error
    assert not {name: each for name, each in verdicts.items() if not getattr(each, "correct", False)}
