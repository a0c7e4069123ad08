"""The 30B shape, as both sides build it; on a card of 80 GB half of its layers, and tiny in a rehearsal."""
import json
from typing import Any

from benchmarks.gpu.box import ROOT
from benchmarks.gpu.record import Settings
from jaxrl_moe.model.config import ModelConfig

LAYERS = {"h200": 48, "h100": 24}
TINY = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
            intermediate_size=96, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=32,
            vocab_size=512)
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
RANK = 16
ALPHA = 32.0


def fields(settings: Settings) -> dict[str, Any]:
    """Of its config.json."""
    whole = json.loads((ROOT / "configs" / "shapes" / "qwen3_30b_a3b.json").read_text())
    return whole | (TINY if settings.rehearse else {"num_hidden_layers": LAYERS[settings.card]})


def model_config(settings: Settings) -> ModelConfig:
    return ModelConfig.from_hf(fields(settings))


def share(settings: Settings) -> float:
    """The layers that are there, of all: figures times this are those of the whole model if layers were all
    its cost, a lower bound."""
    return 1.0 if settings.rehearse else LAYERS[settings.card] / LAYERS["h200"]


def scaled(settings: Settings, tokens_per_s: float) -> dict[str, float]:
    """The figure of a row that stands for the whole model, labelled so; nothing where all layers are
    there."""
    part = share(settings)
    return {} if part == 1 else {f"tokens/s scaled to {LAYERS['h200']} layers": tokens_per_s * part}
