"""What decoders with rotary grouped-query attention, RMSNorm and gated MLPs share; a family overrides what is
its own."""
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxrl_moe.distributed.parameters import EXPERT, ParameterRow, row_of
from jaxrl_moe.model.cache import PagedCache
from jaxrl_moe.model.config import LARGEST, LARGEST_OF_EXPERTS, ModelConfig
from jaxrl_moe.model.families.family import Cost, CountedArray, Family, Kept
from jaxrl_moe.model.families.rows import TensorRow, linear_rows, linear_tensors, norm_rows
from jaxrl_moe.model.layer import DENSE, SPARSE, LayerKind
from jaxrl_moe.model.scoring import Softmax
from jaxrl_moe.outside import REQUIRED, Fields

OUTER_PARAMETERS = (ParameterRow("embed.weight", ("vocab", "model")),
                    ParameterRow("norm.weight", (None,), decayed=False),
                    ParameterRow("lm_head.weight", ("model", "vocab")))
ATTENTION_PARAMETERS = (*linear_rows("attention.q_proj", "out"),
                        *linear_rows("attention.k_proj", "out"),
                        *linear_rows("attention.v_proj", "out"),
                        *linear_rows("attention.o_proj", "in"))
MLP_PARAMETERS = (*linear_rows("mlp.gate_proj", "out"),
                  *linear_rows("mlp.up_proj", "out"),
                  *linear_rows("mlp.down_proj", "in"))
NORM_PARAMETERS = norm_rows("input_norm", "post_attention_norm", "attention.q_norm", "attention.k_norm")

LAYER = "model.layers.{layer}"
QKV = LAYER + ".self_attn.qkv_proj"
GATE_UP = LAYER + ".mlp.gate_up_proj"
OUTER_TENSORS = (TensorRow("embed.weight", "model.embed_tokens.weight"),
                 TensorRow("norm.weight", "model.norm.weight"),
                 TensorRow("lm_head.weight", "lm_head.weight", True))
LAYER_TENSORS = (TensorRow("{layers}.input_norm.weight", LAYER + ".input_layernorm.weight"),
                 TensorRow("{layers}.post_attention_norm.weight", LAYER + ".post_attention_layernorm.weight"),
                 TensorRow("{layers}.attention.q_norm.weight", LAYER + ".self_attn.q_norm.weight"),
                 TensorRow("{layers}.attention.k_norm.weight", LAYER + ".self_attn.k_norm.weight"),
                 *linear_tensors("{layers}.attention.q_proj", LAYER + ".self_attn.q_proj", QKV),
                 *linear_tensors("{layers}.attention.k_proj", LAYER + ".self_attn.k_proj", QKV),
                 *linear_tensors("{layers}.attention.v_proj", LAYER + ".self_attn.v_proj", QKV),
                 *linear_tensors("{layers}.attention.o_proj", LAYER + ".self_attn.o_proj"))
MLP_TENSORS = (TensorRow("{dense}.mlp.gate_proj.weight", LAYER + ".mlp.gate_proj.weight", True,
                         joint=GATE_UP),
               TensorRow("{dense}.mlp.up_proj.weight", LAYER + ".mlp.up_proj.weight", True, joint=GATE_UP),
               TensorRow("{dense}.mlp.down_proj.weight", LAYER + ".mlp.down_proj.weight", True))


class Decoder(Family):
    """Layers are dense or sparse as ModelConfig.sparse_layers says; routers are a softmax."""

    def kinds(self, config: ModelConfig) -> tuple[LayerKind, ...]:
        return tuple(SPARSE if sparse else DENSE for sparse in config.sparse_layers)

    def scoring(self, config: ModelConfig) -> Softmax:
        return Softmax(config.num_experts_per_tok, config.norm_topk_prob)

    def cache(self) -> type:
        return PagedCache

    def splits(self, config: ModelConfig) -> dict[str, dict[str, int]]:
        experts = {"num_experts": config.num_experts} if any(config.sparse_layers) else {}
        mlp = {"moe_intermediate_size": config.moe_intermediate_size} if experts else {}
        if not all(config.sparse_layers):
            mlp |= {"intermediate_size": config.intermediate_size}
        heads = {"num_attention_heads": config.num_heads, "num_key_value_heads": config.num_kv_heads}
        return {"expert": experts, "fsdp": {"hidden_size": config.hidden_size}, "tensor": heads | mlp}

    def cost(self, config: ModelConfig, weights: Iterable[CountedArray]) -> Cost:
        """2 FLOPs a number and product. Only the active experts count; what looks up (embeddings) or works
        elementwise is left out."""
        token = 0.0
        read = 0.0
        output = "embed.weight" if config.tie_word_embeddings else "lm_head.weight"
        for path, shape, flops in weights:
            row = row_of(path, len(shape))
            if path == output:
                read += flops * np.prod(shape)
            elif path.startswith("stacks.") and row.is_matrix:
                token += flops * np.prod(shape) * (config.num_experts_per_tok / config.num_experts
                                                   if EXPERT in row.axes else 1)
        # of a pair: q k and p v, and their four products backward
        return Cost(float(token), float(read), 12.0 * config.num_heads * config.head_dim)

    def kept(self, config: ModelConfig) -> Kept:
        heads = (2 * config.num_heads + 2 * config.num_kv_heads) * config.head_dim * config.num_layers
        hidden = sum(2 * config.num_experts_per_tok * config.moe_intermediate_size if sparse
                     else 2 * config.intermediate_size for sparse in config.sparse_layers)
        return Kept(heads, hidden)


def size(fields: Fields, theirs: str, ours: str, default: Any = REQUIRED) -> Any:
    """A size that config.json calls `theirs` and ModelConfig `ours`, within the bounds of that.

    Raises:
      OutsideError: it is none such, or it is absent and required.
    """
    return fields.integer(theirs, default, least=1, most=(LARGEST | LARGEST_OF_EXPERTS)[ours])
