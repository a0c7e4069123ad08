"""A Hugging Face checkpoint into our model, one stack of layers at a time."""
import functools
import itertools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bridges.hf.checkpoint import Checkpoint, read_config
from bridges.hf.finite import copy
from bridges.hf.folders import refuse_sources, resolve
from bridges.hf.params_folder import is_params_folder, read_layout, restore, write
from jaxrl_moe.distributed import chips
from jaxrl_moe.distributed.parameters import row_of
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.layers import Linear
from jaxrl_moe.model.moe import RouterBias
from jaxrl_moe.model.transformer import Transformer


def load_model(path: str | os.PathLike, *, lora: LoraConfig | None = None, dtype: Any = None, seed: int = 0,
               attention: str = "auto", grouped_matmul: str = "auto",
               placement: Placement | None = None) -> Transformer:
    """Reads a Hugging Face checkpoint (a folder, or a hub name), or a folder that save_params wrote.

    Args:
      path: the folder or hub name.
      lora: attaches freshly drawn adapters (B = 0, so that the model computes what the checkpoint does).
      dtype: of the weights in memory; None: float32 on CPU, bfloat16 elsewhere. Routers stay float32.
      seed: of the adapters.
      attention, grouped_matmul: backends, see jaxrl_moe/kernels.
      placement: the mesh to load onto: each device's part is read from the files by itself, and no host holds
        the whole.

    Raises:
      BridgeError: with every missing, unused or misshapen tensor and its file, or the first that holds NaN
        or an infinity.
      ModelConfigError: when the architecture or a setting is not supported.
      UndeclaredParameter: when the model's family has no row for one of its parameters.
    """
    folder = resolve(path)
    config, checkpoint = _opened(folder)
    model = Transformer.abstract(config, lora=lora, dtype=dtype or default_dtype(placement),
                                 attention=attention, grouped_matmul=grouped_matmul,
                                 platform=platform(placement))
    check_declared(model)
    if checkpoint:
        fill(model, checkpoint, placement)
    else:
        restore(base_weights(model), folder, placement)
    draw_adapters(model, seed, placement)
    return model


def _opened(folder: pathlib.Path) -> tuple[ModelConfig, Checkpoint | None]:
    """The shape of a folder's model, and its tensors where it is a checkpoint, which can be as many."""
    config = read_config(folder)
    if is_params_folder(folder):
        return config, None
    checkpoint = Checkpoint(folder)
    checkpoint.check_count(config)
    return config, checkpoint


def model_config(path: str | os.PathLike) -> ModelConfig:
    """The shape of the model in a folder or under a hub name; raises BridgeError as load_model does."""
    return read_config(resolve(path))


def check_tensors(path: str | os.PathLike) -> None:
    """Raises BridgeError unless every tensor that the model needs is there, with its shape, and none is left
    over; UndeclaredParameter as load_model does. Reads headers."""
    folder = resolve(path)
    config, checkpoint = _opened(folder)
    model = Transformer.abstract(config)
    check_declared(model)
    if checkpoint is None:
        read_layout(folder)
        return
    checkpoint.slots(config, {name: variable.shape for name, variable in base_weights(model).items()})


def check_declared(model: Transformer) -> None:
    """Raises UndeclaredParameter for a parameter, of an adapter too, that no row of the model's family
    covers."""
    for path, variable in _variables(model):
        row_of(path, variable.ndim)


def draw_adapters(model: Transformer, seed: int, placement: Placement | None = None) -> None:
    """Gives every layer that has an adapter a fresh one, which changes nothing yet; on a mesh, one device
    holds one adapter whole at a time."""
    rngs = nnx.Rngs(seed)
    for path, module in nnx.iter_modules(model):
        if isinstance(module, Linear) and module.lora is not None:
            module.draw_adapter(rngs)
            for name, variable in (("lora_a", module.lora_a), ("lora_b", module.lora_b)):
                if placement is not None:
                    variable.set_value(
                        jax.block_until_ready(
                            placement.put_one(".".join(map(str, (*path, name))), variable[...])))


def import_checkpoint(path: str | os.PathLike, output: str | os.PathLike, *,
                      overwrite: bool = False) -> pathlib.Path:
    """Converts a Hugging Face checkpoint into a folder of our parameters, which load_model reads without
    conversion.

    Args:
      path: the folder or hub name.
      output: the folder to make: config.json, the tokenizer, and the arrays through Orbax in the checkpoint's
        dtype.
      overwrite: replace a folder that is there already.
    """
    folder = resolve(path)
    refuse_sources(output, folder)
    config = read_config(folder)
    checkpoint = Checkpoint(folder)
    checkpoint.check_count(config)
    model = Transformer.abstract(config, dtype=checkpoint.layout.dtype)
    fill(model, checkpoint)
    return write(base_weights(model), checkpoint.layout, output, overwrite)


def stored_dtype(path: str | os.PathLike) -> np.dtype:
    """The dtype to load a model in so that nothing is lost."""
    folder = resolve(path)
    return (read_layout(folder) if is_params_folder(folder) else Checkpoint(folder).layout).dtype


def default_dtype(placement: Placement | None = None):
    """That of model.dtype where nothing is asked for."""
    return jnp.dtype(chips.default_dtype(platform(placement)))


def platform(placement: Placement | None) -> str:
    """Of the devices that a model is placed on."""
    return chips.platform_of() if placement is None else placement.platform


def fill(model: Transformer, checkpoint: Checkpoint, placement: Placement | None = None) -> None:
    """Replaces the model's base weights by the checkpoint's. One stack of arrays is held on the host at a
    time, on a mesh one device's part of it."""
    variables = base_weights(model)
    slots = checkpoint.slots(model.config, {path: variable.shape for path, variable in variables.items()})
    for path, group in grouped(slots):
        variable = variables[path]
        read = functools.partial(_part, {slot.index: slot for slot in group}, checkpoint, variable.shape,
                                 variable.dtype)
        if placement is None:
            array = jax.device_put(read((slice(None),) * variable.ndim))
        else:
            shape, sharding = placement.laid_out(path, variable.shape)
            array = jax.make_array_from_callback(shape, sharding, read)
        # the host's copy is taken over, or free before the next is made
        variable.set_value(jax.block_until_ready(array))


def _part(slots: Any, checkpoint: Any, shape: tuple[int, ...], dtype: Any, index: Any):
    """array[index] of a stack of tensors; rows past its own shape (a padded vocabulary) are zeros."""
    bounds = [span.indices(size if span.stop is None else span.stop)[:2]
              for span, size in zip(index, shape, strict=True)]
    array = np.zeros([stop - start for start, stop in bounds], dtype)
    lead = len(next(iter(slots)))
    inner = tuple(slice(start, min(stop, size)) for (start, stop), size in zip(bounds[lead:], shape[lead:]))
    room = tuple(slice(0, span.stop - span.start) for span in inner)
    for position in itertools.product(*(range(start, stop) for start, stop in bounds[:lead])):
        slot = slots[position]
        target = tuple(number - start for number, (start, _) in zip(position, bounds))
        copy(slot.view(checkpoint[slot.key])[inner], array[target + room], checkpoint.named(slot.key))
    return array


def base_weights(model: Transformer) -> dict[str, nnx.Variable]:
    """{our path: variable} of all parameters but the adapters, and of the routers' selection biases."""
    return {path: variable for path, variable in _variables(model) if not isinstance(variable, nnx.LoRAParam)}


def routers(model: Transformer) -> dict[str, nnx.Variable]:
    """{our path: variable} of the routers' weights, their selection biases left out."""
    weights = base_weights(model).items()
    return {path: variable for path, variable in weights if row_of(path, variable.ndim).router}


def selection_biases(model: Transformer) -> dict[str, nnx.Variable]:
    """{our path: variable} of the routers' selection biases."""
    weights = base_weights(model).items()
    return {path: variable for path, variable in weights if isinstance(variable, RouterBias)}


def adapters(model: Transformer) -> dict[str, nnx.Variable]:
    """{our path: variable} of the adapters, such as stacks.0.attention.q_proj.lora_a."""
    return {path: variable for path, variable in _variables(model) if isinstance(variable, nnx.LoRAParam)}


def adapted_weights(model: Transformer) -> dict[str, nnx.Variable]:
    """{our path: variable} of the weights that have adapters."""
    layers = {".".join(map(str, (*path, "weight"))): module.weight for path, module in nnx.iter_modules(model)
              if isinstance(module, Linear) and module.lora is not None}
    return dict(sorted(layers.items()))


def grouped(slots: Any) -> Iterator[tuple]:
    """(path, its slots) in the order in which the paths first appear."""
    groups = {}
    for slot in slots:
        groups.setdefault(slot.path, []).append(slot)
    return iter(groups.items())


def _variables(model: Transformer):
    for path, node in nnx.iter_graph(model):
        if isinstance(node, (nnx.Param, RouterBias)):
            yield ".".join(map(str, path)), node
