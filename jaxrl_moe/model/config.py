"""The model's shape, read from an HF `config.json` in its old spelling (transformers 4) or its new one (5)."""
import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxrl_moe.types import UserError

ARCHITECTURES = {"Qwen3ForCausalLM": "qwen3", "Qwen3MoeForCausalLM": "qwen3_moe"}
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
    """Low-rank adapters: y = x W + scale (x A) B. `targets` are "all-linear", names, or regular expressions on the
    path inside a layer, such as "attention.q_proj". `router`: routers are trained whole, and belong to the adapter."""
    rank: int
    alpha: float
    rslora: bool = False
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)
    router: bool = False

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class Run(NamedTuple):
    """Consecutive layers of one kind, which one scan walks over."""
    first: int
    count: int
    sparse: bool


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A Qwen3 or Qwen3-MoE decoder. `windows[i]` is layer i's sliding window, 0 for full attention."""
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
            raise ModelConfigError(f"num_attention_heads {self.num_heads} is not a multiple of num_key_value_heads {self.num_kv_heads}.")
        if self.head_dim % 2:
            raise ModelConfigError(f"head_dim {self.head_dim} is odd; rotary embeddings turn pairs of channels.")
        if any(self.sparse_layers) and not 0 < self.num_experts_per_tok <= self.num_experts:
            raise ModelConfigError(f"num_experts_per_tok {self.num_experts_per_tok} must lie between 1 and num_experts {self.num_experts}.")

    @property
    def runs(self) -> tuple[Run, ...]:
        runs, first = [], 0
        for sparse, layers in itertools.groupby(self.sparse_layers):
            count = len(list(layers))
            runs.append(Run(first, count, sparse))
            first += count
        return tuple(runs)

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
        family = _family(hf)
        if hf.get("hidden_act", "silu") != "silu":
            raise ModelConfigError(f"hidden_act {hf['hidden_act']!r} is not supported; Qwen3 models use 'silu'.")
        num_layers = _required(hf, "num_hidden_layers")
        num_heads = _required(hf, "num_attention_heads")
        hidden = _required(hf, "hidden_size")
        moe = family == "qwen3_moe"
        return cls(
            family=family,
            vocab_size=_required(hf, "vocab_size"),
            hidden_size=hidden,
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=hf.get("num_key_value_heads") or num_heads,
            head_dim=hf.get("head_dim") or (hidden // num_heads if moe else 128),
            intermediate_size=_required(hf, "intermediate_size"),
            sparse_layers=_sparse_layers(hf, num_layers) if moe else (False,) * num_layers,
            windows=_windows(hf, family, num_layers),
            num_experts=_num_experts(hf) if moe else 0,
            num_experts_per_tok=hf.get("num_experts_per_tok", 8) if moe else 0,
            moe_intermediate_size=_required(hf, "moe_intermediate_size") if moe else 0,
            norm_topk_prob=bool(hf.get("norm_topk_prob", False)),
            tie_word_embeddings=bool(hf.get("tie_word_embeddings", False)),
            attention_bias=bool(hf.get("attention_bias", False)),
            rms_norm_eps=hf.get("rms_norm_eps", 1e-6),
            rope=_rope(hf),
            max_position_embeddings=hf.get("max_position_embeddings", 32768),
            initializer_range=hf.get("initializer_range", 0.02),
            router_aux_loss_coef=hf.get("router_aux_loss_coef", 0.001) if moe else 0.0,
            router_bias=bool(hf.get("router_selection_bias", False)) if moe else False,
        )

    def to_hf(self) -> dict[str, Any]:
        """A config.json that transformers reads as this model; `from_hf` gives it back."""
        windows = set(self.windows) - {0}
        hf = {
            "architectures": [name for name, family in ARCHITECTURES.items() if family == self.family],
            "model_type": self.family, "hidden_act": "silu", "vocab_size": self.vocab_size, "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers, "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads, "head_dim": self.head_dim, "intermediate_size": self.intermediate_size,
            "tie_word_embeddings": self.tie_word_embeddings, "attention_bias": self.attention_bias,
            "rms_norm_eps": self.rms_norm_eps, "rope_parameters": _rope_to_hf(self.rope),
            "max_position_embeddings": self.max_position_embeddings, "initializer_range": self.initializer_range,
            "use_sliding_window": bool(windows), "sliding_window": max(windows, default=None)}
        if self.family == "qwen3":
            return hf | {"layer_types": ["sliding_attention" if window else "full_attention" for window in self.windows]}
        return hf | {
            "num_experts": self.num_experts, "num_experts_per_tok": self.num_experts_per_tok,
            "moe_intermediate_size": self.moe_intermediate_size, "norm_topk_prob": self.norm_topk_prob,
            "router_aux_loss_coef": self.router_aux_loss_coef, "decoder_sparse_step": 1,
            **({"router_selection_bias": True} if self.router_bias else {}),  # ours alone: transformers has no such switch
            "mlp_only_layers": [layer for layer, sparse in enumerate(self.sparse_layers) if not sparse]}


def _required(hf, key):
    if hf.get(key) is None:
        raise ModelConfigError(f"config.json has no {key!r}; it is needed to build the model.")
    return hf[key]


def _family(hf):
    names = hf.get("architectures") or []
    known = [name for name in names if name in ARCHITECTURES]
    if not names and hf.get("model_type") in ARCHITECTURES.values():  # a config that was saved without a model
        return hf["model_type"]
    if not known:
        raise ModelConfigError(f"config.json names the architecture {', '.join(names) or 'nothing'}; supported are "
                               f"{', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[known[0]]


def _num_experts(hf):
    return hf.get("num_experts") or _required(hf, "num_local_experts")


def _sparse_layers(hf, num_layers):
    step, dense = hf.get("decoder_sparse_step", 1), hf.get("mlp_only_layers") or []
    return tuple(i not in dense and _num_experts(hf) > 0 and (i + 1) % step == 0 for i in range(num_layers))


def _windows(hf, family, num_layers):
    """Qwen3-MoE slides every layer; dense Qwen3 follows `layer_types`, or else slides from `max_window_layers` on."""
    window = hf.get("sliding_window", 4096) if hf.get("use_sliding_window") else None
    if not window:
        return (0,) * num_layers
    if family == "qwen3_moe":
        return (window,) * num_layers
    kinds = hf.get("layer_types")
    if kinds is None:
        kinds = ["sliding_attention" if i >= hf.get("max_window_layers", 28) else "full_attention" for i in range(num_layers)]
    if len(kinds) != num_layers or set(kinds) - {"sliding_attention", "full_attention"}:
        raise ModelConfigError("layer_types must give 'full_attention' or 'sliding_attention' for each of "
                               f"{num_layers} layers; it is {kinds}.")
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


def _rope(hf):
    """`rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (transformers 4)."""
    settings = dict(hf.get("rope_scaling") or hf.get("rope_parameters") or {})  # transformers lets the old name win
    kind = settings.pop("rope_type", None) or settings.pop("type", None) or "default"
    settings.pop("type", None)
    theta = settings.pop("rope_theta", None) or hf.get("rope_theta", 10000.0)
    if kind not in ROPE_TYPES:
        raise ModelConfigError(f"rope_type {kind!r} is not supported; known are {', '.join(ROPE_TYPES)}.")
    if settings.pop("partial_rotary_factor", 1.0) != 1.0:
        raise ModelConfigError("partial_rotary_factor other than 1 is not used by this model family.")
    known = {field.name for field in dataclasses.fields(RopeConfig)} - {"theta", "type"}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ModelConfigError(f"rope settings {unknown} are unknown; known are {sorted(known)}.")
    inner = settings.pop("original_max_position_embeddings", None)
    original = hf.get("original_max_position_embeddings") or inner or hf.get("max_position_embeddings", 32768)
    if kind != "default" and settings.get("factor") is None:
        if kind != "yarn":
            raise ModelConfigError(f"rope_type {kind!r} needs a 'factor'.")
        settings["factor"] = hf.get("max_position_embeddings", 32768) / original
    settings = {key: value for key, value in settings.items() if value is not None}
    return RopeConfig(theta=theta, type=kind, original_max_position_embeddings=original, **settings)


def _rope_to_hf(rope: RopeConfig) -> dict[str, Any]:
    hf = {"rope_type": rope.type, "rope_theta": rope.theta}
    if rope.type == "default":
        return hf
    named = ("factor",) if rope.type != "yarn" else [field.name for field in dataclasses.fields(rope)[2:]]
    return hf | {name: getattr(rope, name) for name in named if getattr(rope, name) is not None}
