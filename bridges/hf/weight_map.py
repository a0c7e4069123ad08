"""The weight map: which of our arrays, at which index, is which Hugging Face tensor.

One table of rows per family drives import, export and adapters in both directions. Placeholders:
  {layers}, {dense}, {sparse}   a stack of consecutive layers: any, dense or sparse; its arrays lead with the layer axis
  {layer}                       the layer's number, and so the first index into our array
  {expert}                      the expert's number, and so the second index into our array
"""
import dataclasses
import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from jaxrl_moe.model.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class Row:
    """`transpose`: theirs is [.., out, in], ours [.., in, out]. `part` (i, n): ours is the i-th of n blocks of their `out`."""
    ours: str
    theirs: str
    transpose: bool = False
    part: tuple[int, int] = (0, 1)


def _linear(ours, theirs):
    return (Row(f"{ours}.weight", f"{theirs}.weight", True), Row(f"{ours}.bias", f"{theirs}.bias"))


LAYER = "model.layers.{layer}"
QWEN3 = (
    Row("embed.weight", "model.embed_tokens.weight"),
    Row("norm.weight", "model.norm.weight"),
    Row("lm_head.weight", "lm_head.weight", True),
    Row("{layers}.input_norm.weight", LAYER + ".input_layernorm.weight"),
    Row("{layers}.post_attention_norm.weight", LAYER + ".post_attention_layernorm.weight"),
    Row("{layers}.attention.q_norm.weight", LAYER + ".self_attn.q_norm.weight"),
    Row("{layers}.attention.k_norm.weight", LAYER + ".self_attn.k_norm.weight"),
    *_linear("{layers}.attention.q_proj", LAYER + ".self_attn.q_proj"),
    *_linear("{layers}.attention.k_proj", LAYER + ".self_attn.k_proj"),
    *_linear("{layers}.attention.v_proj", LAYER + ".self_attn.v_proj"),
    *_linear("{layers}.attention.o_proj", LAYER + ".self_attn.o_proj"),
    Row("{dense}.mlp.gate_proj.weight", LAYER + ".mlp.gate_proj.weight", True),
    Row("{dense}.mlp.up_proj.weight", LAYER + ".mlp.up_proj.weight", True),
    Row("{dense}.mlp.down_proj.weight", LAYER + ".mlp.down_proj.weight", True),
)
# The selection bias is there where config.json says router_selection_bias; its tensor is called as in DeepSeek-V3.
ROUTER = (Row("{sparse}.mlp.router.weight", LAYER + ".mlp.gate.weight", True),
          Row("{sparse}.mlp.router.bias", LAYER + ".mlp.gate.e_score_correction_bias"))
FLOAT32 = tuple(row.theirs.replace(LAYER, "") for row in ROUTER)  # ends of names of what is float32 in any model
EXPERTS = (
    Row("{sparse}.mlp.gate_proj.weight", LAYER + ".mlp.experts.{expert}.gate_proj.weight", True),
    Row("{sparse}.mlp.up_proj.weight", LAYER + ".mlp.experts.{expert}.up_proj.weight", True),
    Row("{sparse}.mlp.down_proj.weight", LAYER + ".mlp.experts.{expert}.down_proj.weight", True),
)
FUSED_EXPERTS = (
    Row("{sparse}.mlp.gate_proj.weight", LAYER + ".mlp.experts.gate_up_proj", True, (0, 2)),
    Row("{sparse}.mlp.up_proj.weight", LAYER + ".mlp.experts.gate_up_proj", True, (1, 2)),
    Row("{sparse}.mlp.down_proj.weight", LAYER + ".mlp.experts.down_proj", True),
)
TABLES = {"qwen3": QWEN3, "qwen3_moe": QWEN3 + ROUTER + EXPERTS}
FUSED_TABLES = {"qwen3_moe": QWEN3 + ROUTER + FUSED_EXPERTS}
# With tied embeddings a file may still hold the output matrix; it is then a second copy of the embedding.
TIED_HEAD = Row("embed.weight", "lm_head.weight")


@dataclasses.dataclass(frozen=True)
class Slot:
    """One correspondence: `ours[index]` and `view(theirs)` are the same numbers, laid out alike."""
    path: str
    index: tuple[int, ...]
    key: str
    row: Row

    def view(self, theirs: np.ndarray) -> np.ndarray:
        """The part of their tensor that is ours, in our orientation; writing to it writes to theirs."""
        number, count = self.row.part
        if count > 1:
            size = theirs.shape[-2] // count
            theirs = theirs[..., number * size:(number + 1) * size, :]
        return theirs.swapaxes(-1, -2) if self.row.transpose else theirs

    def their_shape(self, our_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of their tensor, given the whole shape of our array."""
        shape = list(our_shape[len(self.index):])
        if self.row.transpose:
            shape[-2:] = shape[:-3:-1]
        if self.row.part[1] > 1:
            shape[-2] *= self.row.part[1]
        return tuple(shape)


def slots(config: ModelConfig, rows: tuple[Row, ...], shapes: Mapping[str, tuple[int, ...]]) -> list[Slot]:
    """All slots of the arrays named in `shapes` ({our path: shape}), in order of our paths, layers and experts.

    Raises KeyError when a path is in no row: the table and the model disagree.
    """
    sources = {path: (row, run) for row in rows for path, run in _paths(row, config) if path in shapes}
    missing = sorted(set(shapes) - set(sources))
    if missing:
        raise KeyError(f"the weight map of {config.family} has no row for {missing}")
    return [slot for path, (row, run) in sources.items() for slot in _slots(path, row, run, shapes[path])]


def _paths(row: Row, config: ModelConfig) -> Iterator[tuple]:
    if not row.ours.startswith("{"):
        yield row.ours, None
        return
    kind, rest = row.ours.split("}", 1)
    for number, run in enumerate(config.runs):
        if kind == "{layers" or (kind == "{sparse") == run.sparse:
            yield f"stacks.{number}{rest}", run


def _slots(path, row, run, shape) -> Iterator[Slot]:
    if run is None:
        yield Slot(path, (), row.theirs, row)
        return
    experts = range(shape[1]) if "{expert}" in row.theirs else (None,)
    for offset, expert in itertools.product(range(run.count), experts):
        index = (offset,) if expert is None else (offset, expert)
        yield Slot(path, index, row.theirs.format(layer=run.first + offset, expert=expert), row)
