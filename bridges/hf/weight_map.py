"""The weight map: which of our arrays, at which index, is which Hugging Face tensor.

One table of rows per family (jaxrl_moe/model/families) drives import, export and adapters in both directions.
"""
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from bridges.errors import BridgeError, listed
from jaxrl_moe.model.config import LayerStack, ModelConfig
from jaxrl_moe.model.families.registry import family_of
from jaxrl_moe.model.families.rows import TensorRow

EMBEDDING = "embed.weight"
HEAD = "lm_head.weight"


@dataclasses.dataclass(frozen=True)
class Slot:
    """One correspondence: `ours[index]` and `view(theirs)` are the same numbers, laid out alike."""
    path: str
    index: tuple[int, ...]
    key: str
    row: TensorRow
    joint: str = ""

    @property
    def set_name(self) -> str:
        """What the tensor changes hands with; by itself, if the row says nothing."""
        return self.joint or self.key

    def view(self, theirs: np.ndarray) -> np.ndarray:
        """The block of their tensor that is ours, in our orientation; writing to it writes to theirs."""
        number, count = self.row.block
        if count > 1:
            size = theirs.shape[-2] // count
            theirs = theirs[..., number * size:(number + 1) * size, :]
        return theirs.swapaxes(-1, -2) if self.row.transpose else theirs

    def their_shape(self, our_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of their tensor, given the whole shape of our array."""
        shape = list(our_shape[len(self.index):])
        if self.row.transpose:
            shape[-2:] = shape[:-3:-1]
        if self.row.block[1] > 1:
            shape[-2] *= self.row.block[1]
        return tuple(shape)


def table(config: ModelConfig, keys: Iterable[str] = ()) -> tuple[TensorRow, ...]:
    """The family's table, in the spelling (of experts: one by one, or fused) of which `keys` show tensors;
    else in the first."""
    first, *others = family_of(config).spellings
    usual = {row.theirs for row in first}
    keys = list(keys)
    for rows in others:
        own = [pattern(row.theirs) for row in rows if row.theirs not in usual]
        if any(each.fullmatch(key) for each in own for key in keys):
            return rows
    return first


def pattern(theirs: str) -> re.Pattern:
    """Matches the names that a row's `theirs` stands for."""
    parts = re.split(r"\{layer\}|\{expert\}", theirs)
    return re.compile(r"\d+".join(map(re.escape, parts)))


def their_name(config: ModelConfig, ours: str) -> str:
    """What an array of ours that is in no layer is called."""
    name = next((row.theirs for row in table(config) if row.ours == ours), None)
    if name is None:
        raise _lacking(config, table(config), [ours])
    return name


def tied_head(config: ModelConfig) -> Slot:
    """With tied embeddings a file may still hold the output matrix; it is then a second copy of the
    embedding."""
    key = their_name(config, HEAD)
    return Slot(EMBEDDING, (), key, TensorRow(EMBEDDING, key))


def slots(config: ModelConfig, rows: tuple[TensorRow, ...], shapes: Mapping[str, tuple[int, ...]]
          ) -> list[Slot]:
    """All slots of the arrays named in `shapes` ({our path: shape}), in order of our paths, layers and
    experts.

    Raises BridgeError when a path is in no row: the table and the model disagree.
    """
    sources = {path: (row, stack) for row in rows for path, stack in _paths(row, config) if path in shapes}
    missing = sorted(set(shapes) - set(sources))
    if missing:
        raise _lacking(config, rows, missing)
    return [slot for path, (row, stack) in sources.items() for slot in _slots(path, row, stack, shapes[path])]


def _lacking(config: ModelConfig, rows: Iterable[TensorRow], paths: Iterable[str]) -> BridgeError:
    """That parameters are in no row, and which to add."""
    needs = {}
    for path in paths:
        ours = path
        whose = ""
        if path.startswith("stacks."):
            _, number, rest = path.split(".", 2)
            kind = config.stacks[int(number)].kind.name
            ours = f"{{{kind}}}.{rest}"
            whose = f", of layers of the kind {kind!r}"
            others = [row.ours for row in rows if row.ours.endswith(f"}}.{rest}")]
            if others:
                whose += f" (there is {' and '.join(others)})"
        needs.setdefault(ours, f"the parameter {path!r}{whose}: add TensorRow({ours!r}, ...)")
    return BridgeError(f"The spellings of the family {config.family} (jaxrl_moe/model/families) have no row "
                       f"for {listed(list(needs.values()))}.")


def _paths(row: TensorRow, config: ModelConfig) -> Iterator[tuple[str, LayerStack | None]]:
    if not row.ours.startswith("{"):
        yield row.ours, None
        return
    kind, rest = row.ours.removeprefix("{").split("}", 1)
    for number, stack in enumerate(config.stacks):
        if kind in ("layers", stack.kind.name):
            yield f"stacks.{number}{rest}", stack


def _slots(path: str, row: TensorRow, stack: LayerStack | None, shape: tuple[int, ...]) -> Iterator[Slot]:
    if stack is None:
        yield Slot(path, (), row.theirs, row, row.joint)
        return
    experts = range(shape[1]) if "{expert}" in row.theirs else (None,)
    for offset, expert in itertools.product(range(stack.count), experts):
        index = (offset,) if expert is None else (offset, expert)
        layer = stack.first + offset
        key, joint = (name.format(layer=layer, expert=expert) for name in (row.theirs, row.joint))
        yield Slot(path, index, key, row, joint)
