"""The 30B-shaped model (random weights, bfloat16) on one large GPU: LoRA step and decode tokens per second.

Ceilings are for one H200 from arithmetic: 22 kilotokens/s of LoRA training with rematerialisation on present kernels, and
memory bandwidth for decoding (2.4k, 7.5k and 12.8k tokens/s at 32, 128 and 256 sequences).
"""
import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.table import rows
from jaxrl_moe.config import ConfigError, OptimizerSection, RolloutSection
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.rollout.engine import JaxEngine
from jaxrl_moe.training.batch import micro_batches, sample_weights
from jaxrl_moe.training.objective import make_policy_objective
from jaxrl_moe.training.samples import from_conversations
from jaxrl_moe.training.sft import NLL
from jaxrl_moe.training.step import Learner
from jaxrl_moe.types import Request, SamplingParams

QWEN3_30B_A3B = ModelConfig(
    family="qwen3_moe", vocab_size=151936, hidden_size=2048, num_layers=48, num_heads=32, num_kv_heads=4, head_dim=128,
    intermediate_size=6144, sparse_layers=(True,) * 48, windows=(0,) * 48, num_experts=128, num_experts_per_tok=8,
    moe_intermediate_size=768, norm_topk_prob=True, rope=dataclasses.replace(ModelConfig.__dataclass_fields__["rope"].default, theta=1e6))
CEILINGS = {32: 2400, 128: 7500, 256: 12800}
LENGTH, NEW, PROMPT = 2048, 128, 896


def build(config, lora):
    """The model with random weights, made on the device."""
    return nnx.jit(lambda: Transformer(config, lora=lora, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))()


def train_tokens_per_s(config, targets, tokens=4 * LENGTH, steps=3) -> float:
    learner = Learner(build(config, LoraConfig(16, 32.0, targets=targets)), OptimizerSection(), 100, remat="full")
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (tokens // LENGTH, LENGTH)).astype(np.int32)
    samples = from_conversations([(row, np.ones(LENGTH)) for row in ids])
    batches = [one.batch for one in micro_batches(samples, tokens, weights_N=sample_weights(samples, "token-mean"))]
    objective = make_policy_objective(NLL)
    jax.block_until_ready(learner.update(batches, objective))
    start = time.perf_counter()
    for _ in range(steps):
        jax.block_until_ready(learner.update(batches, objective))
    return steps * tokens / (time.perf_counter() - start)


def decode_tokens_per_s(config, batch) -> float:
    settings = RolloutSection(slots=batch, max_tokens=NEW, decode_steps=32, page_size=64)
    engine = JaxEngine(build(config, None), settings, max_prompt_tokens=PROMPT)
    prompts = np.random.default_rng(0).integers(0, config.vocab_size, (batch, PROMPT)).astype(np.int32)
    requests = [Request(row, SamplingParams(max_tokens=NEW), i) for i, row in enumerate(prompts)]
    engine.generate(requests)
    before = engine.stats()
    engine.generate(requests)
    after = engine.stats()
    return (after["tokens"] - before["tokens"]) / (after["seconds"] - before["seconds"])


def table(config=QWEN3_30B_A3B) -> str:
    """Raises ConfigError where there is no GPU."""
    if jax.default_backend() != "gpu":
        raise ConfigError("--case=h200 needs a GPU with 141 GB; this machine has none.")
    attention = ("q_proj", "k_proj", "v_proj", "o_proj")
    lines = [(f"LoRA step, {name}, full remat, T{LENGTH}", f"{train_tokens_per_s(config, targets):.0f}", "22000")
             for name, targets in (("attention", attention), ("attention + experts", ("all-linear",)))]
    lines += [(f"decode, B={batch}, {PROMPT} + {NEW}", f"{decode_tokens_per_s(config, batch):.0f}", ceiling)
              for batch, ceiling in CEILINGS.items()]
    return rows(["what", "tokens/s", "ceiling"], lines)
