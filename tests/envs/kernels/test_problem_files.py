"""Problem files, read as trees: ours, and what is none."""
import pathlib

import pytest

from jaxrl_moe.envs.kernels import problem_files
from jaxrl_moe.types import UserError
from tests.helpers.kernels import PROBLEM

FOLDER = pathlib.Path(problem_files.__file__).parent / "problems"


def test_sizes_are_small_and_then_the_variants():
    problem = problem_files.read(PROBLEM)
    assert problem.sizes == ({"ROWS": 3}, {"ROWS": 1}) and problem.integers == {"ROWS": 64}


def test_a_row_may_say_other_sizes_and_none_means_the_files():
    assert problem_files.read(PROBLEM, sizes=[{"ROWS": 7}]).sizes == ({"ROWS": 7},)
    bare = PROBLEM.replace('SMALL = {"ROWS": 3}\nVARIANTS = [{"ROWS": 1}]\n', "")
    assert problem_files.read(bare).sizes == ()
    with pytest.raises(UserError, match="size 2 of the row names 'COLUMNS'.*those are: ROWS"):
        problem_files.read(bare, sizes=[{"ROWS": 7}, {"COLUMNS": 3}])


def test_a_policy_is_shown_the_file_without_what_the_judge_has_of_it():
    shown = problem_files.read(PROBLEM).shown
    assert "SMALL" not in shown and "VARIANTS" not in shown
    without = PROBLEM.replace('SMALL = {"ROWS": 3}\nVARIANTS = [{"ROWS": 1}]\n', "")
    assert shown == without
    compile(shown, "shown", "exec")


def test_every_problem_of_ours_is_read_and_shown_as_python():
    paths = sorted(FOLDER.glob("level*/*.py"))
    assert len(paths) >= 40
    for path in paths:
        problem = problem_files.read(path.read_text(), str(path))
        assert len(problem.sizes) >= 3 and "\n\n\n\n" not in problem.shown
        compile(problem.shown, str(path), "exec")


@pytest.mark.parametrize("old, new, wrong", [
    ("class Model(", "class Net(", r"0 classes Model \(it has 'Net'\)"),
    ("def get_inputs", "def inputs", r"no function get_inputs\(\)"),
    ("def get_init_inputs()", "def get_init_inputs(size)", "line 19: get_init_inputs.* without arguments"),
    ("def get_init_inputs()", "def get_init_inputs(*, size)", "without arguments"),
    ("return 2 * x", "return 2 *", "line 12 is no Python"),
    ('{"ROWS": 3}', "dict(ROWS=3)", "line 6: SMALL must be written out"),
    ('{"ROWS": 3}', '{"ROWS": -3}', "whole numbers from 0"),
    ('{"ROWS": 3}', '{"ROWS": True}', "whole numbers from 0"),
    ('[{"ROWS": 1}]', "[5]", "VARIANTS is 5: sizes are a mapping"),
    ('[{"ROWS": 1}]', "7", "VARIANTS is 7: sizes are a mapping"),
    ('{"ROWS": 3}', '{"COLUMNS": 3}', "names 'COLUMNS', which is no integer"),
    ("ROWS = 64", "ROWS = 64\nROWS = 32", "names 'ROWS', which is no integer that the module binds once"),
    ("return 2 * x", "return 2 * x\n" + "#" * 300_000, "200000 are the most"),
    ("return 2 * x", "return " + "(" * 3000, "no Python")])
def test_what_is_no_problem_is_refused_with_what_is_wrong_and_where(old, new, wrong):
    assert old in PROBLEM
    with pytest.raises(UserError, match=wrong):
        problem_files.read(PROBLEM.replace(old, new, 1), "a.py")
