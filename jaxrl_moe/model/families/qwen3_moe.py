"""Qwen3-MoE (arXiv 2505.09388): Qwen3 whose MLPs are mixtures of experts, in all layers or in those that
config.json says."""
from typing import Any

from jaxrl_moe.config import ScratchSection
from jaxrl_moe.model.config import ModelConfig, ModelConfigError
from jaxrl_moe.model.families import qwen3
from jaxrl_moe.model.families.decoder import LAYER, Decoder, size
from jaxrl_moe.model.families.registry import register
from jaxrl_moe.model.families.rows import TensorRow, expert_rows, router_rows
from jaxrl_moe.outside import REQUIRED, Fields

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

    def from_hf(self, fields: Fields) -> ModelConfig:
        common = qwen3.common_from_hf(fields)
        num_layers = common["num_layers"]
        head_dim = max(1, common["hidden_size"] // common["num_heads"])
        return ModelConfig(family=self.name, head_dim=size(fields, "head_dim", "head_dim", head_dim),
                           sparse_layers=_sparse_layers(fields, num_layers),
                           windows=_windows(fields, num_layers), num_experts=_num_experts(fields),
                           num_experts_per_tok=size(fields, "num_experts_per_tok", "num_experts_per_tok", 8),
                           moe_intermediate_size=size(fields, "moe_intermediate_size",
                                                      "moe_intermediate_size"),
                           norm_topk_prob=fields.boolean("norm_topk_prob", False),
                           router_aux_loss_coef=fields.number("router_aux_loss_coef", 0.001, least=0.0,
                                                              most=1e6),
                           router_bias=fields.boolean("router_selection_bias", False), **common)

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


def _num_experts(fields: Fields) -> int:
    """Under its name, or that of other models of experts."""
    other = size(fields, "num_local_experts", "num_experts", None)
    experts = size(fields, "num_experts", "num_experts", other or REQUIRED)
    if other not in (None, experts):
        raise ModelConfigError(f"num_experts is {experts}, and num_local_experts {other}; keep one of them.")
    return experts


def _sparse_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    step = fields.integer("decoder_sparse_step", 1, least=1)
    dense = fields.integers("mlp_only_layers", [], most=num_layers - 1)
    return tuple(layer not in dense and (layer + 1) % step == 0 for layer in range(num_layers))


def _windows(fields: Fields, num_layers: int) -> tuple[int, ...]:
    """All layers have the window, or none."""
    window = qwen3.sliding_window(fields)
    usual = [qwen3.SLIDING if window else qwen3.FULL] * num_layers
    if qwen3.layer_types(fields, num_layers, usual) != usual:
        raise ModelConfigError(f"layer_types says something else than {usual[0]!r}, which all layers of "
                               "these models have under this use_sliding_window. Remove it.")
    return (window,) * num_layers


register(Qwen3Moe())
