"""Qwen3-MoE (arXiv 2505.09388): Qwen3 whose MLPs are mixtures of experts, in all layers or in those that
config.json says."""
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.config import ScratchSection
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.families import qwen3
from jaxrl_moe.model.families.decoder import LAYER, Decoder, required
from jaxrl_moe.model.families.registry import register
from jaxrl_moe.model.families.rows import TensorRow, expert_rows, router_rows

JOINT = LAYER + ".mlp.experts"
# The selection bias is there where config.json says router_selection_bias; its tensor is called as in
# DeepSeek-V3.
ROUTER = (TensorRow("{sparse}.mlp.router.weight", LAYER + ".mlp.gate.weight", True, float32=True),
          TensorRow("{sparse}.mlp.router.bias", LAYER + ".mlp.gate.e_score_correction_bias", float32=True,
                    stored_float32=True))
EXPERTS = (
    TensorRow("{sparse}.mlp.gate_proj.weight", JOINT + ".{expert}.gate_proj.weight", True, joint=JOINT),
    TensorRow("{sparse}.mlp.up_proj.weight", JOINT + ".{expert}.up_proj.weight", True, joint=JOINT),
    TensorRow("{sparse}.mlp.down_proj.weight", JOINT + ".{expert}.down_proj.weight", True, joint=JOINT))
FUSED_EXPERTS = (TensorRow("{sparse}.mlp.gate_proj.weight", JOINT + ".gate_up_proj", True, (0, 2), JOINT),
                 TensorRow("{sparse}.mlp.up_proj.weight", JOINT + ".gate_up_proj", True, (1, 2), JOINT),
                 TensorRow("{sparse}.mlp.down_proj.weight", JOINT + ".down_proj", True, joint=JOINT))


class Qwen3Moe(Decoder):
    name = "qwen3_moe"
    title = "Qwen3-MoE"
    architectures = ("Qwen3MoeForCausalLM",)
    parameters = (*qwen3.PARAMETERS,
                  *router_rows(),
                  *expert_rows("mlp.gate_proj", "out"),
                  *expert_rows("mlp.up_proj", "out"),
                  *expert_rows("mlp.down_proj", "in"))
    spellings = (qwen3.TENSORS + ROUTER + EXPERTS, qwen3.TENSORS + ROUTER + FUSED_EXPERTS)
    joins_dense_names = True

    def from_hf(self, hf: Mapping[str, Any]) -> ModelConfig:
        common = qwen3.common_from_hf(hf)
        experts = _num_experts(hf)
        num_layers = common["num_layers"]
        return ModelConfig(family=self.name,
                           head_dim=hf.get("head_dim") or common["hidden_size"] // common["num_heads"],
                           sparse_layers=_sparse_layers(hf, num_layers, experts),
                           windows=(qwen3.sliding_window(hf),) * num_layers, num_experts=experts,
                           num_experts_per_tok=hf.get("num_experts_per_tok", 8),
                           moe_intermediate_size=required(hf, "moe_intermediate_size"),
                           norm_topk_prob=bool(hf.get("norm_topk_prob", False)),
                           router_aux_loss_coef=hf.get("router_aux_loss_coef", 0.001),
                           router_bias=bool(hf.get("router_selection_bias", False)), **common)

    def to_hf(self, config: ModelConfig) -> dict[str, Any]:
        # router_selection_bias is ours alone: transformers has no such switch
        return qwen3.common_to_hf(config, self) | {
            "num_experts": config.num_experts,
            "num_experts_per_tok": config.num_experts_per_tok,
            "moe_intermediate_size": config.moe_intermediate_size,
            "norm_topk_prob": config.norm_topk_prob,
            "router_aux_loss_coef": config.router_aux_loss_coef,
            "decoder_sparse_step": 1,
            **({"router_selection_bias": True} if config.router_bias else {}),
            "mlp_only_layers": [layer for layer, sparse in enumerate(config.sparse_layers) if not sparse]}

    def from_scratch(self, section: ScratchSection, vocab_size: int) -> ModelConfig | None:
        """With tied embeddings, all layers sparse; None without experts."""
        if not section.num_experts:
            return None
        return ModelConfig(family=self.name, sparse_layers=(True,) * section.num_layers,
                           num_experts=section.num_experts, num_experts_per_tok=section.num_experts_per_tok,
                           norm_topk_prob=True, moe_intermediate_size=section.intermediate_size,
                           router_bias=section.router_bias, **qwen3.common_from_scratch(section, vocab_size))


def _num_experts(hf: Mapping[str, Any]) -> int:
    return hf.get("num_experts") or required(hf, "num_local_experts")


def _sparse_layers(hf: Mapping[str, Any], num_layers: int, experts: int) -> tuple[bool, ...]:
    step = hf.get("decoder_sparse_step", 1)
    dense = hf.get("mlp_only_layers") or []
    return tuple(layer not in dense and experts > 0 and (layer + 1) % step == 0
                 for layer in range(num_layers))


register(Qwen3Moe())
