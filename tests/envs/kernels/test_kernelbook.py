"""KernelBook's pairs under our names."""
import pytest

from jaxrl_moe.envs.kernels import kernelbook, problem_files
from jaxrl_moe.types import UserError

PAIR = '''import torch
from torch import nn


class Scale(nn.Module):
    """Scale scales."""

    def __init__(self, size, factor=2.0, *, bias=True):
        super(Scale, self).__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor  # Scale


def get_inputs():
    return [torch.rand([4, 4])]


def get_init_inputs():
    return [[], {'size': 4}]
'''


def arguments(source):
    """What get_init_inputs of a source gives, by running it alone."""
    space = {}
    exec(source[source.index("def get_init_inputs"):], space)
    return space["get_init_inputs"]()


def test_the_entry_point_is_called_model_where_it_is_a_name_and_not_in_texts():
    source = kernelbook.reference(PAIR, "Scale", "row 1")
    assert "class Model(nn.Module)" in source and "super(Model, self)" in source
    assert '"""Scale scales."""' in source and "# Scale" in source
    problem_files.read(source)


@pytest.mark.parametrize("given, made", [
    ("[[], {'size': 4}]", [4]), ("[[4], {}]", [4]), ("[[4, 3.0], {}]", [4, 3.0]), ("[[], {}]", []),
    ("[[4], {'factor': 5}]", [4, 5]), ("[[], {'factor': 5, 'size': 4}]", [4, 5]), ("([4], {})", [4]),
    ("[4]", [4]), ("[]", []), ("[[1], [2]]", [[1], [2]])])
def test_arguments_with_names_are_brought_into_their_order(given, made):
    source = kernelbook.reference(PAIR.replace("[[], {'size': 4}]", given), "Scale", "row 1")
    assert arguments(source) == made


def test_a_default_stands_in_for_an_argument_that_is_left_out_before_another():
    taken = PAIR.replace("size, factor=2.0", "size=1 + 2, factor=2.0").replace("{'size': 4}", "{'factor': 9}")
    assert arguments(kernelbook.reference(taken, "Scale", "row 1")) == [3, 9]


@pytest.mark.parametrize("old, new, wrong", [
    ("{'size': 4}", "{'size': 4, 'bias': False}", "'bias' by name alone"),
    ("{'size': 4}", "{'factor': 4}", "by name alone"),
    ("class Scale", "class Other", "0 classes Scale"),
    ("self.factor = factor", "self.factor = Model", "a name Model already"),
    ("def get_init_inputs", "def inits", "no function get_init_inputs"),
    ("x * self", "x * * self", "no Python")])
def test_what_cannot_be_made_a_problem_is_refused_with_the_reason(old, new, wrong):
    with pytest.raises(UserError, match=wrong):
        kernelbook.reference(PAIR.replace(old, new), "Scale", "row 1")


@pytest.mark.parametrize("entry", ["not a name", "class", ""])
def test_an_entry_point_that_is_no_name_is_refused(entry):
    with pytest.raises(UserError, match="no name of a class"):
        kernelbook.reference(PAIR, entry, "row 1")


def test_an_answer_is_called_model_new():
    source = kernelbook.answer("class ScaleNew:\n    pass\n\n\nScaleNew, Scale\n", "Scale", "row 1")
    assert source == "class ModelNew:\n    pass\n\n\nModelNew, Scale\n"
    with pytest.raises(UserError, match="0 classes ScaleNew"):
        kernelbook.answer("class Other:\n    pass\n", "Scale", "row 1")


def test_a_name_is_changed_wherever_it_stands_in_a_line_behind_other_letters_too():
    assert kernelbook.renamed("ä = 'é'; Net(Net, Net2, a.Net)\n", "Net", "Model", "x") == (
        "ä = 'é'; Model(Model, Net2, a.Model)\n")
