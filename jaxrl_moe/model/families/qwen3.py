"""Qwen3 (arXiv 2505.09388): a dense decoder with norms on queries and keys. Qwen3-MoE is made of the same
pieces."""
from collections.abc import Sequence
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
    size,
)
from jaxrl_moe.model.families.hf_refused import refuse_other_mathematics
from jaxrl_moe.model.families.hf_rope import CONTEXT, rope_from_hf, rope_to_hf
from jaxrl_moe.model.families.registry import register
from jaxrl_moe.outside import Fields, shown

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

    def from_hf(self, fields: Fields) -> ModelConfig:
        common = common_from_hf(fields)
        num_layers = common["num_layers"]
        return ModelConfig(family=self.name, head_dim=size(fields, "head_dim", "head_dim", 128),
                           sparse_layers=(False,) * num_layers, windows=_windows(fields, num_layers),
                           norm_topk_prob=fields.boolean("norm_topk_prob", False), **common)

    def to_hf(self, config: ModelConfig) -> dict[str, Any]:
        kinds = [SLIDING if window else FULL for window in config.windows]
        return common_to_hf(config, self) | {"layer_types": kinds}

    def from_scratch(self, section: ScratchSection, vocab_size: int) -> ModelConfig | None:
        """With tied embeddings; None where there shall be experts."""
        if section.num_experts:
            return None
        return ModelConfig(family=self.name, sparse_layers=(False,) * section.num_layers,
                           **common_from_scratch(section, vocab_size))


def common_from_hf(fields: Fields) -> dict[str, Any]:
    """The fields of ModelConfig that Qwen3 and Qwen3-MoE read alike.

    Raises:
      OutsideError: a field that is needed is not there, or says what these models do not have.
    """
    refuse_other_mathematics(fields)
    fields.string("hidden_act", "silu", choices=["silu"])
    if fields.number("attention_dropout", 0.0):
        raise ModelConfigError("attention_dropout is not 0, and attention drops nothing here. Set it to 0.")
    num_heads = size(fields, "num_attention_heads", "num_heads")
    return {"vocab_size": size(fields, "vocab_size", "vocab_size"),
            "hidden_size": size(fields, "hidden_size", "hidden_size"),
            "num_layers": size(fields, "num_hidden_layers", "num_layers"),
            "num_heads": num_heads,
            "num_kv_heads": size(fields, "num_key_value_heads", "num_kv_heads", num_heads),
            "intermediate_size": size(fields, "intermediate_size", "intermediate_size"),
            "tie_word_embeddings": fields.boolean("tie_word_embeddings", False),
            "attention_bias": fields.boolean("attention_bias", False),
            "rms_norm_eps": fields.number("rms_norm_eps", 1e-6, above=0.0, most=1.0),
            "rope": rope_from_hf(fields),
            "max_position_embeddings": fields.integer("max_position_embeddings", CONTEXT, least=1),
            "initializer_range": fields.number("initializer_range", 0.02, least=0.0, most=1e3)}


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


def sliding_window(fields: Fields) -> int:
    """The width of the sliding window; 0 where there is none."""
    used = fields.boolean("use_sliding_window", False)
    absent = 0 if "sliding_window" in fields.values else 4096  # a null switches it off
    width = fields.integer("sliding_window", absent)
    if used and "sliding_window" in fields and width == 0:
        raise ModelConfigError("use_sliding_window is true, and sliding_window is 0. Give its width, or set "
                               "use_sliding_window to false.")
    return width if used else 0


def layer_types(fields: Fields, num_layers: int, usual: Sequence[str]) -> Sequence[str]:
    """What config.json says of each layer's attention, or else `usual`.

    Raises:
      ModelConfigError: it says something else than these models have, or not of each layer.
    """
    kinds = fields.strings("layer_types", list(usual))
    if len(kinds) != num_layers or set(kinds) - {SLIDING, FULL}:
        raise ModelConfigError(f"layer_types must give {FULL!r} or {SLIDING!r} for each of {num_layers} "
                               f"layers; it is {shown(kinds)}, {len(kinds)} entries.")
    if SLIDING in kinds and not sliding_window(fields):
        raise ModelConfigError(f"layer_types has {SLIDING!r}, but there is no window: set use_sliding_window "
                               "to true and give sliding_window.")
    return kinds


def _windows(fields: Fields, num_layers: int) -> tuple[int, ...]:
    """As `layer_types` says, or else sliding from `max_window_layers` on."""
    window = sliding_window(fields)
    first = fields.integer("max_window_layers", 28)
    usual = [SLIDING if window and layer >= first else FULL for layer in range(num_layers)]
    kinds = layer_types(fields, num_layers, usual)
    return tuple(window if kind == SLIDING else 0 for kind in kinds)


register(Qwen3())
