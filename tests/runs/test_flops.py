"""Model FLOPs against two independent counts: products in a traced gradient, and loops over tokens and
layers."""
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxrl_moe.config import OptimizerSection
from jaxrl_moe.kernels.token_logprobs import token_logprobs
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.runs import flops

DENSE = ModelConfig(family="qwen3", vocab_size=96, hidden_size=64, num_layers=3, num_heads=4, num_kv_heads=2,
                    head_dim=16, intermediate_size=80, sparse_layers=(False,) * 3, windows=(0,) * 3)
SPARSE = ModelConfig(family="qwen3_moe", vocab_size=90, hidden_size=16, num_layers=3, num_heads=4,
                     num_kv_heads=2, head_dim=6, intermediate_size=40, sparse_layers=(False, True, True),
                     windows=(0, 4, 4), num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24,
                     tie_word_embeddings=True)


def batch(lengths, width, trained):
    """Samples one after another in one row, of which so many tokens are trained."""
    positions = np.zeros((1, width), np.int32)
    segments = np.zeros((1, width), np.int32)
    start = 0
    for number, length in enumerate(lengths, 1):
        positions[0, start:start + length], segments[0, start:start + length] = np.arange(length), number
        start += length
    return types.SimpleNamespace(positions_BT=positions, segments_BT=segments,
                                 mask_BT=(np.arange(width) < trained)[None] * 1.0)


def counted(config, lora, one):
    model = Transformer(config, lora=lora, rngs=nnx.Rngs(0))
    learner = build_learner(model, LearnerSettings(OptimizerSection(), 1))
    cost = flops.model_cost(config, learner.state.trainable, learner.parts.frozen)
    return flops.update_flops(config, cost, [one])


def products(jaxpr):
    """FLOPs of all dot products in a jaxpr, those of a scan as often as it runs."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            sizes = [equation.invars[0].aval.shape[axis] for axis in contracted]
            total += 2 * math.prod(sizes) * math.prod(equation.outvars[0].aval.shape)
        assert equation.primitive.name != "while", "how often it runs is not known"
        inner = [
            leaf
            for leaf in jax.tree.leaves(equation.params, is_leaf=lambda x: isinstance(x, Jaxpr | ClosedJaxpr))
            if isinstance(leaf, Jaxpr | ClosedJaxpr)
        ]
        repeats = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += repeats * sum(products(getattr(each, "jaxpr", each)) for each in inner)
    return total


@pytest.mark.parametrize("lora",
                         [None, LoraConfig(4, 8.0),
                          LoraConfig(4, 8.0, targets=("q_proj", "down_proj"))])
def test_flops_are_those_of_the_products_in_a_gradient(lora):
    """Less what the trace computes in vain: the pairs that are not visible, and a trained head's logits a
    second time."""
    tokens = 16  # a chunk of log-probs without padding
    model = Transformer(DENSE, lora=lora, rngs=nnx.Rngs(0), attention="xla")
    graphdef, trained, rest = nnx.split(model, nnx.LoRAParam if lora else nnx.Param, ...)
    ids = jnp.arange(tokens)

    def loss(trained):
        model = nnx.merge(graphdef, trained, rest)
        hidden, _ = model(ids[None], Pass(ids[None], jnp.ones((1, tokens), jnp.int32)))
        return token_logprobs(hidden[0], model.head_DV(), ids, frozen_head=lora is not None)[0].sum()

    expected = products(jax.make_jaxpr(jax.grad(loss))(trained).jaxpr)
    hidden_pairs = DENSE.num_layers * tokens * (tokens - 1) // 2
    expected -= 3 * 2 * 2 * hidden_pairs * DENSE.num_heads * DENSE.head_dim
    expected -= 0 if lora else 2 * tokens * DENSE.hidden_size * DENSE.vocab_size
    np.testing.assert_allclose(counted(DENSE, lora, batch([tokens], tokens, tokens)), expected, rtol=1e-12)


@pytest.mark.parametrize("config, rank", [(DENSE, 0), (SPARSE, 0), (SPARSE, 3)])
def test_flops_are_those_of_a_loop_over_tokens_and_layers(config, rank):
    """Packed samples, padding, windows, dense and sparse layers; a frozen matrix costs two products, a
    trained one three."""
    lengths = [7, 1, 11]
    trained = 9
    inner = config.num_heads * config.head_dim
    shared = config.num_kv_heads * config.head_dim
    size = config.hidden_size
    hidden = config.moe_intermediate_size
    expected = 0

    def linear(rows, columns):
        adapter = 3 * 2 * rank * (rows + columns)
        return (2 if rank else 3) * 2 * rows * columns + adapter

    for length in lengths:
        for token in range(length):
            for sparse, window in zip(config.sparse_layers, config.windows):
                expected += linear(size, inner) + 2 * linear(size, shared) + linear(inner, size)
                visible = min(token + 1, window) if window else token + 1
                expected += 3 * 2 * 2 * config.num_heads * config.head_dim * visible
                if sparse:
                    expected += (2 if rank else 3) * 2 * size * config.num_experts
                    expected += config.num_experts_per_tok * (2 * linear(size, hidden) + linear(hidden, size))
                else:
                    expected += 2 * linear(size, config.intermediate_size) + linear(
                        config.intermediate_size, size)
    expected += trained * (2 if rank else 3) * 2 * size * config.vocab_size
    lora = LoraConfig(rank, 8.0) if rank else None
    np.testing.assert_allclose(counted(config, lora, batch(lengths, 24, trained)), expected, rtol=1e-12)


@pytest.mark.parametrize("kind, peak",
                         [("NVIDIA H200", 989e12),
                          ("NVIDIA H100 80GB HBM3", 989e12),
                          ("NVIDIA H100 PCIe", 756e12),
                          ("NVIDIA H100 NVL", 835e12),
                          ("NVIDIA A100-SXM4-80GB", 312e12),
                          ("NVIDIA L40S", 362e12),
                          ("NVIDIA GeForce RTX 3090", 71e12),
                          ("NVIDIA B200", 2250e12),
                          ("NVIDIA GB200", None),
                          ("NVIDIA H200 MIG 1g.18gb", None),
                          ("cpu", None)])
def test_the_peak_is_that_of_the_devices_kind_or_unknown(kind, peak):
    assert flops.peak_flops(kind) == peak


def test_mfu_is_the_rate_over_the_peak_and_absent_where_the_peak_is_unknown(monkeypatch):
    learner = build_learner(Transformer(DENSE, rngs=nnx.Rngs(0)), LearnerSettings(OptimizerSection(), 1))
    one = batch([12], 12, 12)
    plain = flops.FlopMeter(learner).metrics([one, one], 0.5)
    assert set(plain) == {"perf/tflops_per_s"}
    assert plain["perf/tflops_per_s"] == pytest.approx(counted(DENSE, None, one) * 2 / 0.5 / 1e12)
    monkeypatch.setattr(flops, "PEAKS", (("cpu", 4e9),))
    known = flops.FlopMeter(learner).metrics([one, one], 0.5)
    assert known["perf/mfu"] == pytest.approx(plain["perf/tflops_per_s"] * 1e12 / 4e9)
