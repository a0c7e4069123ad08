"""All problems through the judge: their solutions are right, and are not with a fault of any class."""
import ast
import pathlib

import pytest

from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from tests.helpers.kernel_faults import FAULTS, planted
from tests.helpers.kernel_judges import NEEDED, evaluator

PROBLEMS = pathlib.Path(__file__).parents[4] / "jaxrl_moe" / "envs" / "kernels" / "problems"
NAMES = sorted(str(path.relative_to(PROBLEMS).with_suffix("")) for path in PROBLEMS.glob("level*/*.py"))


@pytest.fixture(scope="module")
def judge():
    with evaluator(seconds=120.0) as made:
        yield made


def problem(name):
    source = (PROBLEMS / f"{name}.py").read_text()
    values = {node.targets[0].id: node.value for node in ast.parse(source).body
              if isinstance(node, ast.Assign)}
    return Judged(source, (ast.literal_eval(values["SMALL"]), *ast.literal_eval(values["VARIANTS"])))


def solution(name):
    return (PROBLEMS / "solutions" / f"{name}.py").read_text()


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
