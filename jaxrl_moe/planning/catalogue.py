"""Checkpoints that are known by name: their shapes, how many parameters they have, and how many of these a
token meets."""
import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrl_moe.distributed.parameters import EXPERT, row_of
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.outside import Fields, OutsideError, read_object

NAME = "_name_or_path"  # of config.json: the checkpoint that it belongs to


@dataclasses.dataclass(frozen=True)
class KnownCheckpoint:
    """A checkpoint whose weights need not be there.

    Attributes:
      name: on the hub, as model.path takes it.
      config: its shape.
    """
    name: str
    config: ModelConfig

    @property
    def architecture(self) -> str:
        """As config.json names it."""
        return self.config.to_hf()["architectures"][0]

    @property
    def parameters(self) -> int:
        """All numbers of all arrays."""
        return sum(array.size for _, array in self._arrays)

    @property
    def active_parameters(self) -> int:
        """Those that one token meets: of the experts the share that its router chooses, of all else
        everything, embeddings included."""
        experts = sum(array.size for path, array in self._arrays if EXPERT in row_of(path, array.ndim).axes)
        idle = self.config.num_experts - self.config.num_experts_per_tok
        return self.parameters - (experts // self.config.num_experts * idle if experts else 0)

    @property
    def bytes(self) -> int:
        """Of the weights as a run holds them in bfloat16; routers are float32."""
        return sum(array.size * array.dtype.itemsize for _, array in self._arrays)

    @functools.cached_property
    def _arrays(self) -> list[tuple[str, Any]]:
        model = Transformer.abstract(self.config, dtype=jnp.dtype("bfloat16"))
        flat = nnx.to_flat_state(nnx.state(model))
        pairs = [(".".join(map(str, path)), jax.tree.leaves(variable)[0]) for path, variable in flat]
        return [(path, array) for path, array in pairs if array.ndim]


def catalogue(folder: pathlib.Path) -> list[KnownCheckpoint]:
    """The checkpoints whose config.json files a folder holds, each under a name of its own, smallest first.

    Raises:
      OutsideError: a file cannot be read, two say the same checkpoint, or no family reads one.
    """
    checkpoints = [checkpoint(path) for path in sorted(folder.glob("*.json"))]
    names = [each.name for each in checkpoints]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OutsideError(f"Two files of {folder} say that they are {twice}: leave one out.")
    return sorted(checkpoints, key=lambda each: each.parameters)


def checkpoint(path: pathlib.Path) -> KnownCheckpoint:
    """The checkpoint of a config.json; one that does not say its name is called as the file, or as the folder
    of a file config.json.

    Raises:
      OutsideError: it cannot be read, or no family reads it.
    """
    values = read_object(path)
    own = path.resolve().parent.name if path.name == "config.json" else path.stem
    name = Fields(values, str(path)).string(NAME, own)
    return KnownCheckpoint(name, ModelConfig.from_hf(values, str(path)))
