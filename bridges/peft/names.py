"""How PEFT calls what the families of models have: adapted layers, routers, and experts whose parameters are
fused."""

import itertools
import re
from collections.abc import Iterable
from typing import NamedTuple

from bridges.hf.weight_map import pattern
from jaxrl_moe.model.families.family import Family
from jaxrl_moe.model.families.registry import families
from jaxrl_moe.model.families.rows import STACK, TensorRow

LAYER_PLACEHOLDER = "{layer}."


class FusedModule(NamedTuple):
    """A module of Hugging Face's that holds the parameters of all experts of a layer.

    Attributes:
      pattern: matches its name.
      parameters: {parameter: the last names of the layers that it is made of, one after another}, in the
        order in which PEFT nests their adapters, from within.
    """

    pattern: re.Pattern
    parameters: dict[str, tuple[str, ...]]


def leaf(name: str) -> str:
    """The last name of a layer, or of the layer that a weight belongs to."""
    return name.removesuffix(".weight").rsplit(".", 1)[-1]


def in_layer(row: TensorRow) -> str:
    """What a row's tensor is called inside its layer."""
    return row.theirs.rsplit(LAYER_PLACEHOLDER, 1)[-1]


def our_names(theirs: Iterable[str]) -> tuple[str, ...]:
    """The last names of our layers, given those that an adapter names; by the first family that knows them
    all."""
    theirs = sorted(set(theirs))
    for family in families():
        known = {
            leaf(row.theirs): leaf(row.ours)
            for row in family.spellings[0]
            if row.transpose and not row.float32
        }
        if known.keys() >= set(theirs):
            return tuple(sorted({known[name] for name in theirs}))
    return tuple(theirs)


def router_rows(family: Family) -> list[TensorRow]:
    """The rows of the family's routers."""
    paths = {row.path for row in family.parameters if row.router}
    return [row for row in family.spellings[0] if re.sub(r"^\{\w+\}", lambda _: STACK, row.ours) in paths]


def router_patterns() -> list[re.Pattern]:
    """Match what routers of any family are called in a checkpoint, without ".weight"."""
    return [
        pattern(row.theirs.removesuffix(".weight")) for family in families() for row in router_rows(family)
    ]


def router_modules() -> set[str]:
    """What modules_to_save may call routers: their names inside a layer, and the ends of these."""
    names = [
        in_layer(row).removesuffix(".weight").split(".")
        for family in families()
        for row in router_rows(family)
    ]
    return {".".join(name[start:]) for name in names for start in range(len(name))}


def fused_modules() -> list[FusedModule]:
    """Of all families."""
    return [_fused(family, rows) for family in families() for rows in family.spellings[1:]]


def _fused(family: Family, rows: tuple[TensorRow, ...]) -> FusedModule:
    apart = {row.ours: leaf(row.theirs) for row in family.spellings[0] if "{expert}" in row.theirs}
    parameters: dict[str, tuple[str, ...]] = {}
    modules = set()
    for row in rows:
        if row.ours in apart:
            module, parameter = row.theirs.rsplit(".", 1)
            modules.add(module)
            parameters[parameter] = (*parameters.get(parameter, ()), apart[row.ours])
    (module,) = modules
    return FusedModule(pattern(module), parameters)


def nested_names(family: Family) -> list[tuple[set[str], set[str]]]:
    """Pairs of layers of experts (last names of ours): PEFT, given experts one by one, looks for adapters of
    the first inside those of the second, where both are parameters of one module."""
    ours = {leaf(row.theirs): leaf(row.ours) for row in family.spellings[0] if "{expert}" in row.theirs}
    pairs = []
    for module in (_fused(family, rows) for rows in family.spellings[1:]):
        names = [{ours[name] for name in layers} for layers in module.parameters.values()]
        pairs += list(itertools.pairwise(names))
    return pairs


def fused_names(family: Family) -> list[set[str]]:
    """For each parameter that is made of several layers of experts, these layers' last names of ours."""
    names: dict[str, set[str]] = {}
    for rows in family.spellings[1:]:
        for row in rows:
            if row.block[1] > 1:
                names.setdefault(row.theirs, set()).add(leaf(row.ours))
    return list(names.values())
