"""The template, what can be chosen in it, and the problems that it can solve.

A problem reduces each row of a matrix: to the sum, or the largest or smallest, of what its elements are
mapped to. Which value stands in for the elements beyond a row's end follows from the map and the reduction
together, and for some there are several. All else of a wrong choice fails in one of the ways in which kernels
fail: it gives other numbers, does not compile or raises an exception.
"""
import itertools
import re
from collections.abc import Mapping
from typing import NamedTuple

from jaxrl_moe.envs.answers import answer_part

SLOTS: Mapping[str, Mapping[str, str]] = {
    "map": {"same": "x", "abs": "tl.abs(x)", "square": "x * x", "negative": "-x", "exp": "tl.exp(x)"},
    "fold": {"sum": "sum", "max": "max", "min": "min"},
    "other": {"0": "0.0", "-inf": 'float("-inf")', "inf": 'float("inf")'},
    "bound": {"columns": "columns", "less": "columns - 1"},
    "type": {"float32": "tl.float32", "float16": "tl.float16"},
    "block": {"power": "triton.next_power_of_2(columns)", "columns": "columns",
              "cdiv": "triton.cdiv(columns)"}}
Choice = Mapping[str, str]  # {slot: option}
_TEMPLATE = '''\
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def rows_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    lanes = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + lanes, mask=lanes < {bound}, other={other}).to({type})
    total = tl.{fold}({map}, axis=0)
    tl.store(out_ptr + row, total)


class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        rows, columns = x.shape
        out = torch.empty(rows, dtype=x.dtype, device=x.device)
        rows_kernel[(rows,)](x, out, columns, BLOCK={block})
        return out
'''
_MAPS = {"same": "x", "abs": "x.abs()", "square": "x * x", "negative": "-x", "exp": "x.exp()"}
_FOLDS = {"sum": "sum(dim=1)", "max": "amax(dim=1)", "min": "amin(dim=1)"}
# So many rows that an element which is left out is the largest and the smallest of some of them; and blocks
# of one size, so that a kernel is compiled once.
SIZES = ({"ROWS": 48, "COLUMNS": 5}, {"ROWS": 32, "COLUMNS": 7}, {"ROWS": 8, "COLUMNS": 8})
_REFERENCE = '''\
import torch
from torch import nn

ROWS = 4096
COLUMNS = 1000

SMALL = {small}
VARIANTS = {variants}


class Model(nn.Module):
    def forward(self, x):
        return ({map}).{fold}


def get_inputs():
    return [torch.randn(ROWS, COLUMNS) + 3 * torch.randn(ROWS, 1)]


def get_init_inputs():
    return []
'''


class ChoiceError(Exception):
    """An answer that chooses nothing, or what cannot be chosen; the message is for who wrote it."""


class RowProblem(NamedTuple):
    """What is to be computed: options of the slots of these names."""
    map: str
    fold: str

    @property
    def name(self) -> str:
        """Such as "max_of_abs"."""
        return f"{self.fold}_of_{self.map}"

    @property
    def words(self) -> str:
        """The problem as a policy is asked it."""
        mapped = {"same": "x", "negative": "minus x"}.get(self.map, f"{self.map} x")
        return f"the {self.fold} of {mapped}"

    @property
    def reference(self) -> str:
        """The problem's file."""
        return _REFERENCE.format(map=_MAPS[self.map], fold=_FOLDS[self.fold], small=SIZES[0],
                                 variants=SIZES[1:])


PROBLEMS = tuple(itertools.starmap(RowProblem, itertools.product(_MAPS, _FOLDS)))


def source(choice: Choice) -> str:
    """The whole source that a choice makes."""
    return _TEMPLATE.format(**{slot: options[choice[slot]] for slot, options in SLOTS.items()})


def said(choice: Choice) -> str:
    """A choice as an answer."""
    return " ".join(f"{slot}={choice[slot]}" for slot in SLOTS)


def chosen(text: str) -> dict[str, str]:
    """The choice that an answer makes after its thoughts, in whatever order.

    Raises:
      ChoiceError: a slot is absent, comes twice or has no such option.
    """
    pairs = re.findall(r"(?<!\S)(\w+)=(\S+)", answer_part(text))
    choice = dict(pairs)
    for slot, options in SLOTS.items():
        count = sum(name == slot for name, _ in pairs)
        if count != 1:
            raise ChoiceError(f"{slot} is chosen {count} times, and once is needed.")
        if choice[slot] not in options:
            raise ChoiceError(f"{slot} is one of {', '.join(options)}.")
    unknown = [name for name in choice if name not in SLOTS]
    if unknown:
        raise ChoiceError(f"there is nothing to choose but {', '.join(SLOTS)}.")
    return choice
