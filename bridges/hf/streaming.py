"""The merged model as Hugging Face tensors, one small set at a time: nothing whole is ever built on the host.

Sets are what servers keep in one array (q, k and v; gate and up; all experts of a layer): a part of such an
array cannot be replaced by every server, so a set changes hands as one. Experts are spelled one by one,
whatever the checkpoint does.
"""
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from bridges.hf import weight_map
from bridges.hf.exporting import FLOAT32, layer_reader, natural
from bridges.hf.importing import adapted_weights, adapters, base_weights, routers, selection_biases
from bridges.hf.tensor_files import DTYPES
from jaxrl_moe.hosts.turns import alone
from jaxrl_moe.model.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class TensorSet:
    """Tensors that change hands together.

    Attributes:
      name: such as model.layers.3.mlp.experts.
      digest: of their bytes; equal digests are equal tensors.
      tensors: {Hugging Face's name: array}; None where `known` said that they are as before.
    """
    name: str
    digest: bytes
    tensors: Mapping[str, np.ndarray] | None

    @property
    def num_bytes(self) -> int:
        return sum(array.nbytes for array in (self.tensors or {}).values())


def tensor_sets(model: Transformer, known: Mapping[str, bytes] = {},  # noqa: B006
                read: Callable | None = None) -> Iterator[TensorSet]:
    """Yields the model's sets, adapters merged in, in the order of layers; what they take is free again when
    they are dropped.

    Args:
      model: its adapters are folded in: in float32, cast once at the end.
      known: {name: digest} of sets that are as they were: they are neither merged nor read.
      read: gives a set's tensors by its name; None: reader(model), of which only the names are needed
        otherwise.
    """
    read = read or reader(model)
    for name in _named(model, base_weights(model)):
        if name in known:
            yield TensorSet(name, known[name], None)
            continue
        tensors = read(name)
        yield TensorSet(name, _digest(tensors), tensors)


def reader(model: Transformer) -> Callable[[str], dict[str, np.ndarray]]:
    """What reads a set of the model's tensors by its name; in a run of several processes all must read it
    together."""
    variables = base_weights(model)
    low_rank = adapters(model)
    named = _named(model, variables)

    def read(name: str):
        with alone():  # several servers may read at a time
            return dict(_tensors(model, named[name], variables, low_rank))
    return read


def frozen_sets(model: Transformer) -> set[str]:
    """Names of the sets that training leaves as they are while it trains adapters: all without one, but for
    the routers."""
    adapted = adapted_weights(model)
    if not adapted:
        return set()
    trained = adapted.keys() | routers(model).keys() | selection_biases(model).keys()
    named = _named(model, base_weights(model)).items()
    return {name for name, slots in named if not any(slot.path in trained for slot in slots)}


def _named(model: Transformer, variables: Mapping[str, Any]):
    """{name of a set: its slots}."""
    shapes = {path: variable.shape for path, variable in variables.items()}
    slots = weight_map.slots(model.config, weight_map.table(model.config), shapes)
    named = {}
    for slot in sorted(slots, key=lambda slot: natural(slot.key)):
        named.setdefault(slot.set_name, []).append(slot)
    return named


def _tensors(model: Transformer, slots: Any, variables: Any, low_rank: Any):
    own = np.dtype(model.dtype)
    current = None
    array = None
    for slot in sorted(slots, key=lambda slot: (slot.path, slot.index)):
        if (slot.path, slot.index[:1]) != current:
            current = (slot.path, slot.index[:1])
            array = layer_reader(model, slot.path, variables, low_rank)(slot.index[:1])
        ours = array[slot.index[1:]]
        dtype = DTYPES[FLOAT32] if slot.row.stored_float32 else own
        tensor = np.empty(slot.their_shape(variables[slot.path].shape), dtype)
        slot.view(tensor)[...] = ours
        yield slot.key, tensor


def _digest(tensors: Mapping[str, np.ndarray]) -> bytes:
    hasher = hashlib.blake2b(digest_size=16)
    for key, array in tensors.items():
        hasher.update(f"{key} {array.dtype} {array.shape}".encode())
        hasher.update(array.reshape(-1).view(np.uint8))
    return hasher.digest()
