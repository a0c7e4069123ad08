"""A model whose matrices are int8 codes: it computes what the decoded numbers say, and only what is beside
them is trained.
"""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from jaxrl_moe.distributed.collectives import Layout, inside
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.kernels.token_logprobs import token_logprobs
from jaxrl_moe.kernels.weight import Dense
from jaxrl_moe.learning.state import model_weights, take_apart
from jaxrl_moe.model.cache import PagedCache
from jaxrl_moe.model.layers import Embedding, Init, Linear
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.weight import FrozenWeight, held, whole
from tests.helpers import moe_case
from tests.helpers.close import assert_close
from tests.helpers.int8 import Int8

LENGTH = 80  # tokens of a row; two rows are more than the experts take in one batched product
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 47, (2, LENGTH)), jnp.int32)
POSITIONS = jnp.tile(jnp.arange(LENGTH, dtype=jnp.int32), (2, 1))
SEGMENTS = jnp.asarray((np.arange(LENGTH) < [[LENGTH], [60]]).astype(np.int32))


def matrices(model):
    """The model's embedding and linear layers."""
    return [module for _, module in nnx.iter_modules(model) if isinstance(module, Linear | Embedding)]


def pair(lora=None, **overrides):
    """A model over int8 codes, and one over the very numbers that they stand for."""
    models = [moe_case.model(lora, **overrides) for _ in range(2)]
    for quantised, decoded in zip(*map(matrices, models), strict=True):
        weight = Int8.of(quantised.weight[...])
        quantised.weight = FrozenWeight(weight)
        decoded.weight.set_value(weight.dense(jnp.float32))
    for model in models:
        for number, (_, variable) in enumerate(nnx.to_flat_state(nnx.state(model, nnx.LoRAParam))):
            variable.set_value(0.3 * jax.random.normal(jax.random.key(number), variable.shape))
    return models


def passes(model):
    """Hidden states and logits of whole rows, and the logits of a step of decoding after a prompt of nine."""
    graphdef, state = nnx.split(model)

    @jax.jit
    def run(state):
        model = nnx.merge(graphdef, state)
        hidden, _ = model(TOKENS, Pass(POSITIONS, SEGMENTS))
        cache = PagedCache.zeros(model.config, 4, 8, model.dtype)
        pages = jnp.arange(4).reshape(2, 2)
        _, cache, _ = model.extend(TOKENS[:, :9], cache, Pass(POSITIONS[:, :9], pages_BJ=pages))
        step, _, _ = model.extend(TOKENS[:, 9:10], cache, Pass(POSITIONS[:, 9:10], pages_BJ=pages))
        return hidden, model.logits(hidden), model.logits(step)

    return run(state)


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_of_int8_matrices_says_what_the_decoded_one_says(tied):
    quantised, decoded = pair(moe_case.LORA, tie_word_embeddings=tied)
    assert_close(passes(quantised), passes(decoded))


def gradients(model):
    """(what is trained, the loss, its gradient)."""
    parts, trained, biases = take_apart(model)

    @jax.jit
    def loss(trained):
        model = nnx.merge(parts.graphdef, model_weights(trained, parts.dtypes), biases, parts.frozen)
        hidden_BTD, _ = model(TOKENS, Pass(POSITIONS, SEGMENTS, remat="full"))
        hidden_MD = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
        frozen = model.lora is not None
        logprobs_M, _ = token_logprobs(hidden_MD, model.head_DV(), TOKENS.reshape(-1), frozen_head=frozen)
        return -jnp.sum(jnp.where(SEGMENTS.reshape(-1) > 0, logprobs_M, 0))

    return trained, *jax.value_and_grad(loss)(trained)


def names(state):
    return {path[-1] for path, _ in nnx.to_flat_state(state)}


def test_lora_on_int8_matrices_trains_the_adapters_alone():
    quantised, decoded = map(gradients, pair(moe_case.LORA))
    assert names(quantised[0]) == {"lora_a", "lora_b"}
    assert_close(quantised[1:], decoded[1:])
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(quantised[2]))


def test_without_adapters_what_is_not_codes_is_trained():
    quantised, decoded = map(gradients, pair())
    paths = {path for path, _ in nnx.to_flat_state(quantised[0])}
    assert paths and all("norm" in path[-2] or path[-2] == "router" for path in paths)
    assert_close(quantised[1], decoded[1])
    wanted = dict(nnx.to_flat_state(decoded[2]))
    for path, variable in nnx.to_flat_state(quantised[2]):
        assert_close(variable[...], wanted[path][...])


def test_a_change_of_all_that_is_trained_leaves_codes_and_scales_alone():
    quantised, _ = pair(moe_case.LORA)
    before = [np.asarray(leaf).copy() for leaf in jax.tree.leaves(nnx.state(quantised, FrozenWeight))]
    parts, trained, _ = take_apart(quantised)
    changed = nnx.merge(parts.graphdef, jax.tree.map(lambda leaf: leaf + 1, trained), parts.frozen)
    after = jax.tree.leaves(nnx.state(changed, FrozenWeight))
    assert {str(leaf.dtype) for leaf in before} == {"int8", "float32"}
    assert all(map(np.array_equal, before, after))


def test_a_layer_holds_an_array_or_a_value():
    linear = Linear("lm_head", 16, 8, Init(0.3, jnp.float32, nnx.Rngs(0)))
    assert isinstance(held(linear.weight), Dense) and held(linear.weight).nbytes == 4 * 16 * 8
    linear.weight = FrozenWeight(Int8.of(linear.weight[...]))
    assert linear.weight.shape == (16, 8) and held(linear.weight).nbytes == 16 * 8 + 4 * 8


@pytest.mark.parametrize("split", ["out", "in"])
def test_codes_that_are_split_over_fsdp_make_the_same_products(split):
    axis, codes = (-2, PartitionSpec("fsdp", None)) if split == "out" else (-1, PartitionSpec(None, "fsdp"))
    scales = PartitionSpec() if split == "out" else codes
    linear = Linear("mlp.up_proj", 16, 8, Init(0.3, jnp.float32, nnx.Rngs(0)), split=split)
    weight = Int8.of(linear.weight[...])
    x = jax.random.normal(jax.random.key(1), (5, 16))
    linear.weight = FrozenWeight(weight)
    graphdef, state = nnx.split(linear)
    place = make_placement({"fsdp": 2})

    def local(state, x):
        linear = nnx.merge(graphdef, state)
        with inside(Layout.of({"fsdp": 2})):
            assert whole(linear.weight, axis).shape == (16, 8) and held(linear.weight).shape != (16, 8)
            return jax.value_and_grad(lambda x: jnp.sum(linear(x) ** 2))(x)

    specs = jax.tree.unflatten(jax.tree.structure(state), [codes, scales]), PartitionSpec()
    run = jax.shard_map(local, mesh=place.mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)
    assert_close(jax.jit(run)(state, x), jax.value_and_grad(lambda x: jnp.sum(weight.matmul(x) ** 2))(x))
