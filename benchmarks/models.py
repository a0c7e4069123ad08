"""The models that the benchmarks share, on both sides: ours and transformers', with the same weights."""
import tempfile

import jax.numpy as jnp

import bridges
from jaxrl_moe.model.config import LoraConfig

RANK, ALPHA = 8, 16.0
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def hf_config(experts=8, active=2, layers=4, hidden=256, expert_hidden=128, vocab=4096, heads=8, kv_heads=4, head_dim=32):
    from transformers import Qwen3MoeConfig
    return Qwen3MoeConfig(
        vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        head_dim=head_dim, num_experts=experts, num_experts_per_tok=active, moe_intermediate_size=expert_hidden,
        intermediate_size=4 * hidden, norm_topk_prob=True, max_position_embeddings=4096, eos_token_id=None, bos_token_id=None)


def hf_model(config, experts_implementation="grouped_mm", seed=0):
    import torch
    from transformers import Qwen3MoeForCausalLM
    torch.manual_seed(seed)
    config._experts_implementation = experts_implementation
    return Qwen3MoeForCausalLM(config).float()


def with_peft(model, experts: bool):
    """LoRA on attention, and on the experts as PEFT has it: gate and up fused in one parameter, one adapter on both."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"] if experts else []
    return get_peft_model(model, PeftConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(ATTENTION), target_parameters=parameters))


def our_model(hf, experts: bool | None):
    """The same weights in our model; experts None attaches no adapters."""
    lora = None if experts is None else LoraConfig(RANK, ALPHA, targets=("all-linear",) if experts else ATTENTION)
    with tempfile.TemporaryDirectory() as folder:
        hf.save_pretrained(folder)
        return bridges.load_model(folder, lora=lora, dtype=jnp.float32)
