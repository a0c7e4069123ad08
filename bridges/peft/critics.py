"""A critic to and from two files, which lie beside the adapter that it was trained with.

`value_head.safetensors` holds dense.weight [D, D], dense.bias [D], out.weight [1, D] and out.bias [1],
float32 and laid out as torch.nn.Linear has them: V(h) = out(tanh(dense(h))) of the trunk's last hidden state
h, after its final norm. `value_head.json` tells what the head is and where it belongs.
"""
import json
import os
import pathlib

import jax.numpy as jnp
import numpy as np
from flax import nnx

from bridges.errors import BridgeError, listed
from bridges.hf.finite import copy
from bridges.hf.folders import new_folder, read_json, refuse_sources, resolve
from bridges.hf.tensor_files import FLOATS, TensorInfo, TensorReader, create
from jaxrl_moe.hosts import hosts
from jaxrl_moe.model.value_head import Critic, ValueHead
from jaxrl_moe.outside import Fields, OutsideError

CONFIG = "value_head.json"
WEIGHTS = "value_head.safetensors"
LAYERS = ["linear", "tanh", "linear"]
KINDS = ("token", "last_token")
FIELDS = {"dense.weight": "dense", "dense.bias": "dense_bias", "out.weight": "out", "out.bias": "out_bias"}


def export_critic(critic: Critic, path: str | os.PathLike, base: str | os.PathLike,
                  overwrite: bool = False) -> pathlib.Path:
    """Writes a folder that holds a critic and nothing else; `export_adapter` writes one beside an adapter.

    Args:
      critic: the critic.
      path: the folder to make; it appears whole or not at all.
      base: the model whose hidden states it reads: a folder or hub name.
      overwrite: replace a folder that is there already.

    Raises:
      BridgeError: the folder cannot be written.
    """
    refuse_sources(path, base)
    if not hosts.leads():
        return pathlib.Path(path)
    with new_folder(path, overwrite) as folder:
        write_critic(critic, folder, os.fspath(base))
    return pathlib.Path(path)


def write_critic(critic: Critic, folder: pathlib.Path, base: str) -> None:
    """Writes the critic's two files into a folder that is being made."""
    arrays = {
        name: np.asarray(getattr(critic.head, field)[...], np.float32).T for name, field in FIELDS.items()
    }
    views = create(folder / WEIGHTS, {name: TensorInfo("F32", array.shape) for name, array in arrays.items()})
    for name, array in arrays.items():
        copy(array, views[name], f"Tensor {name} of the critic")
    config = {
        "layers": LAYERS,
        "hidden_size": len(arrays["dense.bias"]),
        "critic": critic.kind,
        "base_model_name_or_path": base
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_critic(path: str | os.PathLike) -> Critic:
    """Reads the critic that lies in a folder, or in a repository of the hub: beside an adapter, or alone.

    Raises:
      BridgeError: there is none, it is of another kind, or a tensor is missing, unused, misshapen or not
        finite.
    """
    folder = resolve(path)
    if not (folder / CONFIG).exists():
        raise BridgeError(f"{folder} holds no critic: there is no {CONFIG}. Give the adapter folder of a run "
                          "that trained one, or write it from a checkpoint: python -m bridges critic RUN "
                          "OUTPUT.")
    size, kind = _described(folder / CONFIG)
    head = nnx.eval_shape(lambda: ValueHead(size, rngs=nnx.Rngs(0)))
    if not (folder / WEIGHTS).exists():
        raise BridgeError(f"{folder / WEIGHTS} is missing beside {CONFIG}. Copy the whole folder.")
    tensors = TensorReader(folder / WEIGHTS)
    shapes = {name: getattr(head, field).shape[::-1] for name, field in FIELDS.items()}
    problems = [f"tensor {name} is missing" for name in shapes.keys() - tensors.infos.keys()]
    problems += [f"tensor {name} is used by nothing" for name in tensors.infos.keys() - shapes.keys()]
    problems += [f"tensor {name} has dtype {info.dtype}, which is no float"
                 for name, info in tensors.infos.items() if info.dtype not in FLOATS]
    problems += [
        f"tensor {name} has shape {list(tensors.infos[name].shape)}, not {list(shape)}"
        for name, shape in shapes.items() if name in tensors.infos and tensors.infos[name].shape != shape
    ]
    if problems:
        raise BridgeError(f"{folder / WEIGHTS} does not fit {CONFIG}: {listed(sorted(problems))}. Copy both "
                          "files again.")
    for name, field in FIELDS.items():
        array = np.empty(tensors.infos[name].shape, np.float32)
        copy(tensors[name], array, f"Tensor {name} of {folder / WEIGHTS}")
        getattr(head, field).set_value(jnp.asarray(array.T))
    return Critic(head, kind)


def _described(path: pathlib.Path) -> tuple[int, str]:
    """(hidden_size, kind) of the critic that the file describes."""
    fields = Fields(read_json(path), "it")
    try:
        fields.only(("layers", "hidden_size", "critic", "base_model_name_or_path"))
        if fields.strings("layers") != LAYERS:
            raise OutsideError(f"its layers must be {LAYERS}.")
        return fields.integer("hidden_size", least=1), fields.string("critic", choices=KINDS)
    except OutsideError as error:
        raise BridgeError(f"{path} describes no critic of this package: {error} Export it again.") from error
