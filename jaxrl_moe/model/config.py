"""The model's shape. How it is read from a Hugging Face config.json, and all else that depends on the kind of
model, its family says."""
import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxrl_moe.model.families import registry
from jaxrl_moe.outside import Fields, OutsideError

# Sizes beyond which a number is a mistake and no model's. The products of those that lie in one array stay
# below 2**63, so that an array's size can be told before it is compared with a checkpoint's.
LARGEST = {"vocab_size": 2**24, "hidden_size": 2**17, "num_layers": 2**10, "num_heads": 2**12,
           "num_kv_heads": 2**12, "head_dim": 2**12, "intermediate_size": 2**20,
           "max_position_embeddings": 2**31 - 1}
LARGEST_OF_EXPERTS = {"num_experts": 2**14, "num_experts_per_tok": 2**14, "moe_intermediate_size": 2**20}


class ModelConfigError(OutsideError):
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
        sizes = LARGEST | (LARGEST_OF_EXPERTS if any(self.sparse_layers) else {})
        for name, most in sizes.items():
            value = getattr(self, name)
            if type(value) is not int or not 0 < value <= most:
                raise ModelConfigError(f"{name} is {value!r}; an integer from 1 to {most} is needed.")
        if self.num_heads % self.num_kv_heads:
            raise ModelConfigError(f"num_attention_heads {self.num_heads} is not a multiple of "
                                   f"num_key_value_heads {self.num_kv_heads}.")
        if self.head_dim % 2:
            raise ModelConfigError(f"head_dim {self.head_dim} is odd; rotary embeddings turn pairs of "
                                   "channels.")
        if self.rope.type == "dynamic" and self.head_dim == 2:
            raise ModelConfigError("head_dim 2 leaves dynamic rotary embeddings nothing to scale; it must be "
                                   "larger.")
        if self.context > LARGEST["max_position_embeddings"]:
            raise ModelConfigError(f"the rotary embedding's factor {self.rope.factor:g} makes a context of "
                                   f"{self.context} tokens, more than positions can number.")
        if any(self.sparse_layers) and not 0 < self.num_experts_per_tok <= self.num_experts:
            raise ModelConfigError(f"num_experts_per_tok {self.num_experts_per_tok} must lie between 1 and "
                                   f"num_experts {self.num_experts}.")

    @property
    def context(self) -> int:
        """Tokens of the longest sequence that the model is made for: max_position_embeddings, or what its
        rotary embeddings are stretched to, `factor` times what it was trained on, where that is more."""
        trained = self.rope.original_max_position_embeddings or self.max_position_embeddings
        return max(self.max_position_embeddings, int(trained * self.rope.factor))

    @property
    def drawn_context(self) -> int:
        """Tokens of the longest sequence that can be drawn, prompt included. With dynamic scaling that is
        max_position_embeddings: beyond, each new token changes the angles of all before it, so that neither
        a cache nor a later pass over the whole agrees with what it was drawn by."""
        return self.max_position_embeddings if self.rope.type == "dynamic" else self.context

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
    def from_hf(cls, hf: Mapping[str, Any], where: str = "config.json") -> "ModelConfig":
        """Reads a parsed config.json; `where` names it in messages.

        Raises:
          ModelConfigError: naming what could not be honoured.
        """
        try:
            return registry.reading(Fields(hf, where))
        except ModelConfigError as error:
            raise ModelConfigError(f"{where}: {error}") from error
        except OutsideError as error:
            raise ModelConfigError(str(error)) from error

    def to_hf(self) -> dict[str, Any]:
        """A config.json that transformers reads as this model; `from_hf` gives it back."""
        return registry.family_of(self).to_hf(self)
