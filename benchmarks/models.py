"""The models that the benchmarks share, on both sides: ours and transformers', with the same weights."""
import multiprocessing
import tempfile
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

import bridges
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.transformer import Transformer

RANK = 8
ALPHA = 16.0
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")


def hf_config(experts: int = 8, active: int = 2, layers: int = 4, hidden: int = 256, expert_hidden: int = 128,
              vocab: int = 4096, heads: int = 8, kv_heads: int = 4, head_dim: int = 32) -> Any:
    from transformers import Qwen3MoeConfig
    return Qwen3MoeConfig(vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers,
                          num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim,
                          num_experts=experts, num_experts_per_tok=active,
                          moe_intermediate_size=expert_hidden, intermediate_size=4 * hidden,
                          norm_topk_prob=True, max_position_embeddings=4096, eos_token_id=None,
                          bos_token_id=None)


def hf_model(experts_implementation: str = "grouped_mm", seed: int = 0, **shape: int) -> Any:
    import torch
    from transformers import Qwen3MoeForCausalLM
    torch.manual_seed(seed)
    config = hf_config(**shape)
    config._experts_implementation = experts_implementation
    return Qwen3MoeForCausalLM(config).float()


def with_peft(model: Any, experts: bool) -> Any:
    """LoRA on attention, and on the experts as PEFT has it: gate and up fused in one parameter, one adapter
    on both."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model
    parameters = list(EXPERTS) if experts else []
    return get_peft_model(
        model,
        PeftConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(ATTENTION), target_parameters=parameters))


def our_model(expert_lora: bool | None, **shape: int) -> Transformer:
    """The weights of hf_model(**shape) in our model; expert_lora None attaches no adapters.

    A child process writes the checkpoint: torch and its threads stay out of the process that is measured.
    """
    lora = None if expert_lora is None else LoraConfig(RANK, ALPHA,
                                                       targets=("all-linear",) if expert_lora else ATTENTION)
    with tempfile.TemporaryDirectory() as folder:
        writer = multiprocessing.get_context("spawn").Process(target=_save, args=(folder, shape))
        writer.start()
        writer.join()
        if writer.exitcode:
            raise RuntimeError("the process that writes the benchmarked model's weights failed; its error is "
                               "above")
        return bridges.load_model(folder, lora=lora, dtype=jnp.float32)


def _save(folder: str, shape: Mapping[str, int]) -> None:
    hf_model(**shape).save_pretrained(folder)
