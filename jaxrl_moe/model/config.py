"""The model's shape. How it is read from a Hugging Face config.json, and all else that depends on the kind of
model, its family says."""
import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxrl_moe.model.families import registry
from jaxrl_moe.types import UserError

ROPE_TYPES = ("default", "linear", "dynamic", "yarn")


class ModelConfigError(UserError):
    """A config.json that this package cannot honour."""


@dataclasses.dataclass(frozen=True)
class RopeConfig:
    """Rotary embedding and its scaling; the fields are those of HF's `rope_parameters`."""
    theta: float = 10000.0
    type: str = "default"
    factor: float = 1.0
    original_max_position_embeddings: int = 0
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters: y = x W + scale (x A) B. `targets` are "all-linear", names, or regular expressions
    on the path inside a layer, such as "attention.q_proj". `router`: routers are trained whole, and belong to
    the adapter."""
    rank: int
    alpha: float
    rslora: bool = False
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)
    router: bool = False

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class LayerStack(NamedTuple):
    """Consecutive layers of one kind (model.layer.LayerKind): stacked arrays, which one scan walks over."""
    first: int
    count: int
    kind: Any


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A decoder of a family (model/families), which may add fields of its own in a subclass.

    `windows[i]` is layer i's sliding window, 0 for full attention; `sparse_layers[i]` whether it has experts.
    """
    family: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    sparse_layers: tuple[bool, ...]
    windows: tuple[int, ...]
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    norm_topk_prob: bool = False
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    rms_norm_eps: float = 1e-6
    rope: RopeConfig = RopeConfig()
    max_position_embeddings: int = 32768
    initializer_range: float = 0.02
    router_aux_loss_coef: float = 0.0
    router_bias: bool = False  # a selection bias that balances the experts without a loss

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise ModelConfigError(f"num_attention_heads {self.num_heads} is not a multiple of "
                                   f"num_key_value_heads {self.num_kv_heads}.")
        if self.head_dim % 2:
            raise ModelConfigError(f"head_dim {self.head_dim} is odd; rotary embeddings turn pairs of "
                                   "channels.")
        if any(self.sparse_layers) and not 0 < self.num_experts_per_tok <= self.num_experts:
            raise ModelConfigError(f"num_experts_per_tok {self.num_experts_per_tok} must lie between 1 and "
                                   f"num_experts {self.num_experts}.")

    @property
    def stacks(self) -> tuple[LayerStack, ...]:
        """The runs of like layers, from the first layer on.

        Raises:
          ModelConfigError: the family's kinds are not those of num_layers and sparse_layers.
        """
        stacks = []
        first = 0
        for kind, layers in itertools.groupby(self._kinds()):
            count = len(list(layers))
            stacks.append(LayerStack(first, count, kind))
            first += count
        return tuple(stacks)

    def _kinds(self) -> tuple[Any, ...]:
        kinds = tuple(registry.family_of(self).kinds(self))
        whose = f"kinds(config) of the family {self.family!r}"
        for name, given in ((whose, kinds), ("sparse_layers", self.sparse_layers)):
            if len(given) != self.num_layers:
                raise ModelConfigError(f"{name} has {len(given)} entries, and num_layers is "
                                       f"{self.num_layers}: give one for each layer.")
        for layer, (kind, sparse) in enumerate(zip(kinds, self.sparse_layers)):
            if kind.sparse != sparse:
                raise ModelConfigError(f"{whose} says that layer {layer} is {kind.name!r}, whose `sparse` is "
                                       f"{kind.sparse}, and sparse_layers[{layer}] is {sparse}: make the two "
                                       "agree.")
        return kinds

    def splits(self) -> dict[str, dict[str, int]]:
        """What the axes of a mesh split: see Family.splits."""
        return registry.family_of(self).splits(self)

    @property
    def num_sparse_layers(self) -> int:
        return sum(self.sparse_layers)

    @property
    def expert_dtype(self) -> type:
        """The smallest integer type for expert ids and the sentinel -1."""
        return np.int8 if self.num_experts <= 128 else np.int16

    @classmethod
    def from_hf(cls, hf: Mapping[str, Any]) -> "ModelConfig":
        """Reads a parsed config.json; raises ModelConfigError on whatever could not be honoured."""
        family = registry.reading(hf)
        if family is None:
            names = ", ".join(hf.get("architectures") or []) or "nothing"
            raise ModelConfigError(f"config.json names the architecture {names}; supported are "
                                   f"{', '.join(registry.architectures())}.")
        return family.from_hf(hf)

    def to_hf(self) -> dict[str, Any]:
        """A config.json that transformers reads as this model; `from_hf` gives it back."""
        return registry.family_of(self).to_hf(self)
