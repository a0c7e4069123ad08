"""Qwen3 (arXiv 2505.09388): a dense decoder with norms on queries and keys. Qwen3-MoE is made of the same
pieces."""
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.config import ScratchSection
from jaxrl_moe.model.config import ModelConfig, ModelConfigError
from jaxrl_moe.model.families.decoder import (
    ATTENTION_PARAMETERS,
    LAYER_TENSORS,
    MLP_PARAMETERS,
    MLP_TENSORS,
    NORM_PARAMETERS,
    OUTER_PARAMETERS,
    OUTER_TENSORS,
    Decoder,
    required,
    rope_from_hf,
    rope_to_hf,
)
from jaxrl_moe.model.families.registry import register

PARAMETERS = OUTER_PARAMETERS + NORM_PARAMETERS + ATTENTION_PARAMETERS + MLP_PARAMETERS
TENSORS = OUTER_TENSORS + LAYER_TENSORS + MLP_TENSORS
SLIDING = "sliding_attention"
FULL = "full_attention"


class Qwen3(Decoder):
    name = "qwen3"
    title = "Qwen3"
    architectures = ("Qwen3ForCausalLM",)
    parameters = PARAMETERS
    spellings = (TENSORS,)

    def from_hf(self, hf: Mapping[str, Any]) -> ModelConfig:
        common = common_from_hf(hf)
        num_layers = common["num_layers"]
        return ModelConfig(family=self.name, head_dim=hf.get("head_dim") or 128,
                           sparse_layers=(False,) * num_layers, windows=_windows(hf, num_layers),
                           norm_topk_prob=bool(hf.get("norm_topk_prob", False)), **common)

    def to_hf(self, config: ModelConfig) -> dict[str, Any]:
        kinds = [SLIDING if window else FULL for window in config.windows]
        return common_to_hf(config, self) | {"layer_types": kinds}

    def from_scratch(self, section: ScratchSection, vocab_size: int) -> ModelConfig | None:
        """With tied embeddings; None where there shall be experts."""
        if section.num_experts:
            return None
        return ModelConfig(family=self.name, sparse_layers=(False,) * section.num_layers,
                           **common_from_scratch(section, vocab_size))


def common_from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ModelConfig that Qwen3 and Qwen3-MoE read alike.

    Raises:
      ModelConfigError: a field that is needed is not there, or says what these models do not have.
    """
    if hf.get("hidden_act", "silu") != "silu":
        raise ModelConfigError(f"hidden_act {hf['hidden_act']!r} is not supported; Qwen3 models use 'silu'.")
    num_heads = required(hf, "num_attention_heads")
    return {"vocab_size": required(hf, "vocab_size"),
            "hidden_size": required(hf, "hidden_size"),
            "num_layers": required(hf, "num_hidden_layers"),
            "num_heads": num_heads,
            "num_kv_heads": hf.get("num_key_value_heads") or num_heads,
            "intermediate_size": required(hf, "intermediate_size"),
            "tie_word_embeddings": bool(hf.get("tie_word_embeddings", False)),
            "attention_bias": bool(hf.get("attention_bias", False)),
            "rms_norm_eps": hf.get("rms_norm_eps", 1e-6),
            "rope": rope_from_hf(hf),
            "max_position_embeddings": hf.get("max_position_embeddings", 32768),
            "initializer_range": hf.get("initializer_range", 0.02)}


def common_to_hf(config: ModelConfig, family: Decoder) -> dict[str, Any]:
    """The reverse of common_from_hf, and what names the family."""
    windows = set(config.windows) - {0}
    return {"architectures": list(family.architectures),
            "model_type": family.name,
            "hidden_act": "silu",
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "num_key_value_heads": config.num_kv_heads,
            "head_dim": config.head_dim,
            "intermediate_size": config.intermediate_size,
            "tie_word_embeddings": config.tie_word_embeddings,
            "attention_bias": config.attention_bias,
            "rms_norm_eps": config.rms_norm_eps,
            "rope_parameters": rope_to_hf(config.rope),
            "max_position_embeddings": config.max_position_embeddings,
            "initializer_range": config.initializer_range,
            "use_sliding_window": bool(windows),
            "sliding_window": max(windows, default=None)}


def common_from_scratch(section: ScratchSection, vocab_size: int) -> dict[str, Any]:
    """The fields of a model from scratch."""
    return {"vocab_size": vocab_size,
            "hidden_size": section.hidden_size,
            "num_layers": section.num_layers,
            "num_heads": section.num_heads,
            "num_kv_heads": section.num_kv_heads,
            "head_dim": section.head_dim,
            "intermediate_size": section.intermediate_size,
            "tie_word_embeddings": True,
            "windows": (0,) * section.num_layers,
            "max_position_embeddings": section.context,
            "initializer_range": section.initializer_range}


def sliding_window(hf: Mapping[str, Any]) -> int:
    """The width of the sliding window; 0 where there is none."""
    return (hf.get("sliding_window", 4096) if hf.get("use_sliding_window") else None) or 0


def _windows(hf: Mapping[str, Any], num_layers: int) -> tuple[int, ...]:
    """As `layer_types` says, or else sliding from `max_window_layers` on."""
    window = sliding_window(hf)
    kinds = hf.get("layer_types")
    if not window:
        return (0,) * num_layers
    if kinds is None:
        kinds = [SLIDING if layer >= hf.get("max_window_layers", 28) else FULL for layer in range(num_layers)]
    if len(kinds) != num_layers or set(kinds) - {SLIDING, FULL}:
        raise ModelConfigError("layer_types must give 'full_attention' or 'sliding_attention' for each of "
                               f"{num_layers} layers; it is {kinds}.")
    return tuple(window if kind == SLIDING else 0 for kind in kinds)


register(Qwen3())
