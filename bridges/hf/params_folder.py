"""A folder of our parameters: config.json and tokenizer as in the checkpoint they came from, the arrays
through Orbax.

`layout.json` remembers how that checkpoint lay on disk, so that exporting gives the same files again.
"""
import contextlib
import errno
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from flax import nnx

from bridges.errors import BridgeError, listed
from bridges.hf.checkpoint import INDEX, DiskLayout
from bridges.hf.finite import refuse
from bridges.hf.folders import check_names, copy_companions, new_folder, plain_name, read_json
from bridges.hf.tensor_files import DTYPES, MOST, TensorInfo
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.runs.checkpoints.checkpoint import quiet
from jaxrl_moe.types import UserError

ARRAYS = "params"
LAYOUT = "layout.json"
SHOWN = 400  # characters of what Orbax says


def is_params_folder(folder: pathlib.Path) -> bool:
    """Raises BridgeError where the folder is that and a checkpoint."""
    if not (folder / ARRAYS).is_dir():
        return False
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        raise BridgeError(f"{folder} holds parameters of this package ({ARRAYS}/) and {listed(others)}: "
                          "which of the two is the model? Move the other out of the folder.")
    return True


def write(variables: Mapping[str, nnx.Variable], layout: DiskLayout, path: str | os.PathLike, overwrite: bool
          ) -> pathlib.Path:
    """Writes the arrays under our paths; see load_model for reading them."""
    with new_folder(path, overwrite) as folder:
        shutil.copyfile(layout.folder / "config.json", folder / "config.json")
        if (layout.folder / INDEX).exists():
            shutil.copyfile(layout.folder / INDEX, folder / INDEX)
        copy_companions(layout.folder, folder)
        rows = {key: [layout.shards[key], info.dtype, list(info.shape)] for key, info in layout.infos.items()}
        (folder / LAYOUT).write_text(json.dumps(rows, indent=0) + "\n")
        _save(folder / ARRAYS, {name: variable[...] for name, variable in variables.items()})
    return pathlib.Path(path)


def _save(folder: pathlib.Path, arrays: Any):
    if shutil.disk_usage(folder.parent).free < sum(array.nbytes for array in arrays.values()):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        with quiet(), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            checkpointer.save(folder.absolute(), args=ocp.args.StandardSave(arrays))
    except Exception as error:  # Orbax wraps a full disk in several types, by the layer that met it
        if "No space left" in str(error) or "quota" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise BridgeError(f"Orbax could not write the parameters to {folder}: "
                          f"{' '.join(str(error).split())}") from error


def restore(variables: Mapping[str, nnx.Variable], folder: pathlib.Path,
            placement: Placement | None = None) -> None:
    """Fills abstract variables from a params folder; raises BridgeError that names what does not fit.

    On a mesh each device reads its own part, but of a vocabulary that has to be padded first.
    """
    with _told(folder), ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.metadata((folder / ARRAYS).absolute()).item_metadata.tree
        _check(variables, stored, folder)
        alone = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = {}
        for name, variable in variables.items():
            shape, sharding = (variable.shape,
                               alone) if placement is None else placement.laid_out(name, variable.shape)
            wanted[name] = jax.ShapeDtypeStruct(variable.shape, variable.dtype,
                                                sharding=sharding if shape == variable.shape else alone)
        arrays = checkpointer.restore((folder / ARRAYS).absolute(), wanted)
    for name, variable in variables.items():
        if not _finite(arrays[name]):
            refuse(f"Array {name} of {folder / ARRAYS}")
        variable.set_value(arrays[name] if placement is None else placement.put_one(name, arrays[name]))


@contextlib.contextmanager
def _told(folder: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Orbax raises several types, by the layer that met the damage
        raise BridgeError(f"Orbax could not read the parameters in {folder / ARRAYS}: "
                          f"{' '.join(str(error).split())[:SHOWN]}. Import the checkpoint again.") from error


@jax.jit
def _finite(array: jax.Array) -> jax.Array:
    return jnp.isfinite(array).all()


def _check(variables: Any, stored: Any, folder: pathlib.Path):
    problems = [f"array {name} is missing" for name in variables if name not in stored]
    problems += [f"array {name} is used by nothing" for name in stored if name not in variables]
    problems += [
        f"array {name} has shape {list(stored[name].shape)}, the config needs {list(variable.shape)}"
        for name, variable in variables.items()
        if name in stored and tuple(stored[name].shape) != variable.shape
    ]
    if problems:
        raise BridgeError(f"{folder / ARRAYS} does not fit {folder / 'config.json'}: {listed(problems)}. "
                          "Import the checkpoint again.")


def read_layout(folder: pathlib.Path) -> DiskLayout:
    """How the checkpoint lay on disk that the folder was imported from; raises BridgeError where its record
    is damaged."""
    path = folder / LAYOUT
    rows = read_json(path)
    check_names(rows, str(path))
    bad = [key for key, row in rows.items() if not _is_row(row)]
    if bad or not rows:
        raise BridgeError(f"{path} does not say in which file, dtype and shape these tensors lay: "
                          f"{listed(bad) or 'any'}. Import the checkpoint again.")
    files = {key: plain_name(row[0], f"{path} (tensor {key})") for key, row in rows.items()}
    return DiskLayout(folder, files,
                      {key: TensorInfo(row[1], tuple(row[2])) for key, row in rows.items()})


def _is_row(row: Any) -> bool:
    """Whether it is [file, dtype, shape]."""
    if not isinstance(row, list) or list(map(type, row)) != [str, str, list]:
        return False
    return row[1] in DTYPES and all(type(size) is int and 0 <= size <= MOST for size in row[2])
