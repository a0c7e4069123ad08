"""Keys of config.json that change what a model computes, in ways that the models here do not have.

Most of them transformers knows from other architectures, or a fork or a server reads them, so that one file
means two models. A key that is not known here is passed over, as transformers passes it over: published files
carry many that are about their making.
"""
from typing import Any

from jaxrl_moe.model.config import ModelConfigError
from jaxrl_moe.outside import Fields, shown

# {key: the values with which it changes nothing}; a null and what is empty never do.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    # weights
    "quantization_config": (), "compression_config": (), "pruned_heads": (),
    # attention
    "is_causal": (True,), "use_bidirectional_attention": (False,), "is_encoder_decoder": (False,),
    "add_cross_attention": (False,), "dual_chunk_attention_config": (), "attention_chunk_size": (0,),
    "attention_multiplier": (), "query_pre_attn_scalar": (), "attn_logit_softcapping": (), "clip_qkv": (),
    "scale_attn_by_inverse_layer_idx": (False,), "attn_temperature_tuning": (False, 0),
    "qk_norm": (True,), "use_qk_norm": (True,), "attn_output_gate": (False,), "alibi": (False,),
    "rope_interleaved": (False,), "rope_interleave": (False,), "use_mrope": (False,), "use_rope": (True,),
    "no_rope_layers": (), "no_rope_layer_interval": (0,), "sliding_window_pattern": (), "kv_lora_rank": (0,),
    "q_lora_rank": (0,),
    # scales of what flows
    "logits_scaling": (1,), "logit_scale": (1,), "final_logit_softcapping": (), "embedding_multiplier": (1,),
    "residual_multiplier": (1,), "lm_head_multiplier": (1,), "scale_emb": (1,), "scale_depth": (),
    # MLPs
    "hidden_activation": ("silu",), "mlp_bias": (False,), "swiglu_limit": (),
    # experts
    "num_shared_experts": (0,), "n_shared_experts": (0,), "shared_expert_intermediate_size": (0,),
    "n_group": (0, 1), "topk_group": (0, 1), "num_expert_group": (0, 1), "topk_method": ("greedy",),
    "routed_scaling_factor": (1,), "scoring_func": ("softmax",), "moe_layer_freq": (1,),
    "first_k_dense_replace": (0,), "use_expert_bias": (False,),
    "moe_router_enable_expert_bias": (False,)}


def refuse_other_mathematics(fields: Fields) -> None:
    """Raises ModelConfigError for the first key that asks for what these models do not compute."""
    for key, neutral in NEUTRAL.items():
        value = fields.values.get(key)
        if value in (None, [], {}) or any(_same(value, each) for each in neutral):
            continue
        if key in ("quantization_config", "compression_config"):
            raise ModelConfigError(f"{key} is {shown(value)}, and quantised checkpoints are not read. Take "
                                   "the model that it was made from, or dequantise it; where the weights are "
                                   "plain already, remove the key.")
        harmless = " or ".join(map(shown, neutral)) or "null"
        raise ModelConfigError(f"{key} is {shown(value)}, and models of this family compute nothing of the "
                               f"kind here: {harmless} would change nothing. Take another model, or remove "
                               "the key if its weights were made without.")


def _same(value: Any, other: Any) -> bool:
    return isinstance(value, bool) == isinstance(other, bool) and value == other
