"""Our model into a Hugging Face checkpoint, tensor by tensor, merged with its adapters or without them."""
import json
import os
import pathlib
import shutil
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bridges.errors import BridgeError, listed
from bridges.hf import weight_map
from bridges.hf.checkpoint import (
    INDEX,
    SINGLE,
    Checkpoint,
    DiskLayout,
    read_config,
    read_index,
    write_index,
)
from bridges.hf.finite import copy
from bridges.hf.folders import copy_companions, new_folder, read_json, refuse_sources, resolve
from bridges.hf.importing import adapters, base_weights, grouped, selection_biases
from bridges.hf.params_folder import is_params_folder, read_layout
from bridges.hf.tensor_files import FLOATS, NAMES, TensorInfo, create
from jaxrl_moe.hosts import hosts
from jaxrl_moe.model.families.registry import family_of
from jaxrl_moe.model.transformer import Transformer

SHARD_BYTES = 5 * 10**9
FLOAT32 = "F32"
TORCH_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def export_model(model: Transformer, path: str | os.PathLike, *, merge: bool = True, dtype: Any = None,
                 source: str | os.PathLike | None = None, max_shard_bytes: int | None = None,
                 overwrite: bool = False) -> pathlib.Path:
    """Writes a Hugging Face checkpoint that transformers, vLLM and SGLang load.

    Args:
      model: its adapters, if any, are folded in under `merge`: in float32, cast once at the end.
      path: the folder to make. It appears whole or not at all.
      merge: False writes the base weights alone.
      dtype: of all tensors on disk; None keeps each tensor's dtype in `source`, or else the model's.
      source: the checkpoint that the model came from. Its config.json is kept as it is, its tokenizer files,
        chat template and generation settings travel along, and its shards and spelling of experts are kept.
      max_shard_bytes: size limit of one file; None: as in `source`, or else 5 GB.
      overwrite: replace a folder that is there already.

    Returns:
      The folder's path.

    Raises:
      BridgeError: when the folder exists, the disk is full, `source` is another model, or a number is not
        finite, in the model or in the dtype that it is written as.
    """
    if model.config.router_bias:
        warnings.warn(f"{path} keeps the routers' selection bias as tensors {_bias_names(model)}, under "
                      "router_selection_bias in config.json. Stock loaders of "
                      f"{family_of(model.config).title} (transformers, vLLM, SGLang) ignore both and choose "
                      "experts without it, so they do not compute this model; this package "
                      "does.", stacklevel=2)
    refuse_sources(path, source)
    origin = None if source is None else _origin(resolve(source), model)
    plan = _Plan(model, origin, None if dtype is None else _safetensors_name(dtype), max_shard_bytes)
    if not hosts.leads():  # takes part in gathering what process 0 writes
        _write(model, plan.slots, None, merge)
        return pathlib.Path(path)
    with new_folder(path, overwrite) as folder:
        views = plan.create(folder)
        _write(model, plan.slots, views, merge)
        plan.write_config(folder)
        if origin is not None:
            copy_companions(origin.folder, folder)
    return pathlib.Path(path)


def _bias_names(model: Transformer) -> str:
    """What ends the names of the tensors that hold routers' selection biases."""
    biases = {path: variable.shape for path, variable in selection_biases(model).items()}
    slots = weight_map.slots(model.config, weight_map.table(model.config), biases)
    return ", ".join(sorted({slot.row.theirs.rsplit("{layer}.", 1)[-1] for slot in slots}))


def _origin(folder: pathlib.Path, model: Transformer) -> DiskLayout:
    if read_config(folder) != model.config:
        raise BridgeError(f"{folder / 'config.json'} describes another model than the one being exported. "
                          "Give the checkpoint that training started from as the source.")
    return read_layout(folder) if is_params_folder(folder) else Checkpoint(folder).layout


def _check_origin(origin: DiskLayout, needed: set[str]) -> None:
    """The source must have the tensors of the model, and no others, in dtypes that are written."""
    problems = [f"tensor {key} is missing" for key in sorted(needed - origin.infos.keys())]
    problems += [f"tensor {key} is used by nothing" for key in sorted(origin.infos.keys() - needed)]
    problems += [f"tensor {key} has dtype {info.dtype}; quantised checkpoints are not written"
                 for key, info in origin.infos.items() if info.dtype not in FLOATS]
    if problems:
        raise BridgeError(f"{origin.folder} does not fit the model being exported: {listed(problems)}. Give "
                          "the checkpoint that training started from as the source.")


def _safetensors_name(dtype: Any):
    name = NAMES.get(np.dtype(dtype))
    if name not in TORCH_NAMES:
        raise BridgeError(f"Checkpoints are written as {', '.join(TORCH_NAMES.values())}; {dtype} is not one "
                          "of them.")
    return name


class _Plan:
    """What is written where: slots, dtypes and shards."""

    def __init__(self, model: Transformer, origin: Any, dtype: Any, max_shard_bytes: Any):
        self.model = model
        self.origin = origin
        self.dtype = dtype
        shapes = {path: variable.shape for path, variable in base_weights(model).items()}
        known = origin.infos if origin else {}
        self.slots = weight_map.slots(model.config, weight_map.table(model.config, known), shapes)
        if model.config.tie_word_embeddings and weight_map.tied_head(model.config).key in known:
            self.slots += [weight_map.tied_head(model.config)]
        if origin is not None:
            _check_origin(origin, {slot.key for slot in self.slots})
        own = NAMES[np.dtype(model.dtype)]

        def stored(slot: weight_map.Slot) -> str:
            if slot.row.stored_float32:
                return FLOAT32
            return dtype or (known[slot.key].dtype if origin else own)

        self.infos = {slot.key: TensorInfo(stored(slot),
                                           slot.their_shape(shapes[slot.path])) for slot in self.slots}
        keep = origin is not None and max_shard_bytes is None
        self.shards = dict(origin.shards) if keep else shard(self.infos, max_shard_bytes or SHARD_BYTES)

    def create(self, folder: pathlib.Path):
        """Makes the files; returns {tensor name: writable view}."""
        views = {}
        for file in sorted(set(self.shards.values())):
            views |= create(folder / file,
                            {key: self.infos[key] for key in self.infos if self.shards[key] == file})
        if set(self.shards.values()) != {SINGLE}:
            self._index(folder)
        return views

    def _index(self, folder: pathlib.Path):
        if self.origin is not None and self.dtype is None and read_index(self.origin.folder) == self.shards:
            shutil.copyfile(self.origin.folder / INDEX, folder / INDEX)
        else:
            write_index(folder, self.shards, self.infos)

    def write_config(self, folder: pathlib.Path):
        """The source's config.json as it is, but for the dtype if that was asked for; else one made from the
        model."""
        if self.origin is not None and self.dtype is None:
            shutil.copyfile(self.origin.folder / "config.json", folder / "config.json")
            return
        config = read_json(self.origin.folder / "config.json") if self.origin else self.model.config.to_hf()
        config.pop("torch_dtype", None)
        config["dtype"] = TORCH_NAMES[self.dtype or NAMES[np.dtype(self.model.dtype)]]
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def shard(infos: dict[str, TensorInfo], limit: int) -> dict[str, str]:
    """{tensor name: file name}, filling files in the order of names up to `limit` bytes; a larger tensor
    stands alone."""
    bins = [[]]
    used = 0
    for key in sorted(infos, key=natural):
        size = infos[key].num_bytes
        if bins[-1] and used + size > limit:
            bins.append([])
            used = 0
        bins[-1].append(key)
        used += size
    if len(bins) == 1:
        return dict.fromkeys(infos, SINGLE)
    return {
        key: f"model-{number:05d}-of-{len(bins):05d}.safetensors" for number, keys in enumerate(bins, 1)
        for key in keys
    }


def natural(key: str) -> list[tuple]:
    """Sorts layer 2 before layer 10."""
    return [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in key.split(".")]


def _write(model: Transformer, slots: Any, views: Any, merge: bool):
    variables = base_weights(model)
    low_rank = adapters(model) if merge else {}
    refusal = None
    for path, group in grouped(slots):
        layers = layer_reader(model, path, variables, low_rank)
        current = None
        array = None
        for slot in group:
            layer = slot.index[:1]
            if layer != current:
                current = layer
                array = layers(layer)
            if views is not None and refusal is None:
                try:
                    copy(array[slot.index[1:]], slot.view(views[slot.key]), f"Tensor {slot.key} of the model")
                except BridgeError as error:
                    refusal = error  # raised at the end: other processes go on gathering with this one
    if refusal is not None:
        raise refusal


def layer_reader(model: Transformer, path: str, variables: Mapping[str, nnx.Variable],
                 low_rank: Mapping[str, nnx.Variable]) -> Callable[[tuple[int, ...]], np.ndarray]:
    """Returns a function from () or (layer,) to that layer's weights on the host, float32 where adapters were
    folded in."""
    weight = variables[path][...]
    stem = path.removesuffix(".weight")
    pair = low_rank.get(f"{stem}.lora_a"), low_rank.get(f"{stem}.lora_b")
    if pair[0] is None or not path.endswith(".weight"):
        return lambda layer: hosts.fetch(weight[layer])
    a, b = (variable[...] for variable in pair)
    return lambda layer: hosts.fetch(_fold(weight[layer], a[layer], b[layer], model.lora.scale))


@jax.jit
def _fold(weight: jax.Array, a: jax.Array, b: jax.Array, scale: Any):
    low = jnp.matmul(a.astype(jnp.float32), b.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    return weight.astype(jnp.float32) + scale * low
