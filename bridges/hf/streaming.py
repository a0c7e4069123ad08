"""The merged model as Hugging Face tensors, one small set at a time: nothing whole is ever built on the host.

Sets are what servers keep in one array (q, k and v; gate and up; all experts of a layer): a part of such an array cannot be
replaced by every server, so a set changes hands as one. Experts are spelled one by one, whatever the checkpoint does.
"""
import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from bridges.hf import weight_map
from bridges.hf.exporting import BIAS_DTYPE, layer_reader, natural
from bridges.hf.importing import adapters, base_weights
from bridges.hf.tensor_files import DTYPES
from jaxrl_moe.hosts.turns import alone
from jaxrl_moe.model.transformer import Transformer

_FUSED = ((r"\.self_attn\.[qkv]_proj\..*", ".self_attn.qkv_proj"), (r"\.mlp\.(gate|up)_proj\..*", ".mlp.gate_up_proj"),
          (r"\.mlp\.experts\..*", ".mlp.experts"))


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


def tensor_sets(model: Transformer, known: Mapping[str, bytes] = {}, read: Callable | None = None) -> Iterator[TensorSet]:  # noqa: B006
    """Yields the model's sets, adapters merged in, in the order of layers; what they take is free again when they are dropped.

    Args:
      model: its adapters are folded in: in float32, cast once at the end.
      known: {name: digest} of sets that are as they were: they are neither merged nor read.
      read: gives a set's tensors by its name; None: reader(model), of which only the names are needed otherwise.
    """
    read = read or reader(model)
    for name in _named(model, base_weights(model)):
        if name in known:
            yield TensorSet(name, known[name], None)
            continue
        tensors = read(name)
        yield TensorSet(name, _digest(tensors), tensors)


def reader(model: Transformer) -> Callable[[str], dict[str, np.ndarray]]:
    """What reads a set of the model's tensors by its name; in a run of several processes all must read it together."""
    variables, low_rank = base_weights(model), adapters(model)
    named = _named(model, variables)

    def read(name):
        with alone():  # several servers may read at a time
            return dict(_tensors(model, named[name], variables, low_rank))
    return read


def frozen_sets(model: Transformer) -> set[str]:
    """Names of the sets that training leaves as they are while it trains adapters: all without one, but for the routers."""
    low_rank = adapters(model)
    if not low_rank:
        return set()
    return {name for name, slots in _named(model, base_weights(model)).items()
            if not any(f"{slot.path.removesuffix('.weight')}.lora_a" in low_rank or ".router." in slot.path for slot in slots)}


def _named(model, variables):
    """{name of a set: its slots}."""
    shapes = {path: variable.shape for path, variable in variables.items()}
    found = {}
    for slot in sorted(weight_map.slots(model.config, weight_map.TABLES[model.config.family], shapes), key=lambda slot: natural(slot.key)):
        found.setdefault(set_name(slot.key), []).append(slot)
    return found


def set_name(key: str) -> str:
    """The set that a tensor belongs to."""
    for pattern, fused in _FUSED:
        key, count = re.subn(pattern + "$", fused, key)
        if count:
            return key
    return key


def _tensors(model, slots, variables, low_rank):
    own, current, array = np.dtype(model.dtype), None, None
    for slot in sorted(slots, key=lambda slot: (slot.path, slot.index)):
        if (slot.path, slot.index[:1]) != current:
            current, array = (slot.path, slot.index[:1]), layer_reader(model, slot.path, variables, low_rank)(slot.index[:1])
        ours = array[slot.index[1:]]
        tensor = np.empty(slot.their_shape(variables[slot.path].shape), DTYPES[BIAS_DTYPE] if slot.path.endswith(".router.bias") else own)
        slot.view(tensor)[...] = ours
        yield slot.key, tensor


def _digest(tensors) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for key, array in tensors.items():
        found.update(f"{key} {array.dtype} {array.shape}".encode())
        found.update(array.reshape(-1).view(np.uint8))
    return found.digest()
