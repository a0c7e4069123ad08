import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxrl_moe.model import transformer
from jaxrl_moe.model.cache import PagedCache
from jaxrl_moe.model.config import LoraConfig, ModelConfig, ModelConfigError
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.transformer import REMAT, Transformer
from tests.helpers.close import assert_close

MOE = ModelConfig(family="qwen3_moe", vocab_size=61, hidden_size=16, num_layers=3, num_heads=4,
                  num_kv_heads=2, head_dim=8, intermediate_size=24, sparse_layers=(True, False, True),
                  windows=(0, 0, 0), num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12,
                  norm_topk_prob=True)
DENSE = dataclasses.replace(MOE, family="qwen3", sparse_layers=(False,) * 3, windows=(0, 5, 0),
                            num_experts=0, num_experts_per_tok=0)
LORA = LoraConfig(rank=3, alpha=6.0)


def build(config=MOE, lora=LORA, **options):
    """A model whose adapters do something, with routers far from ties."""
    model = Transformer(config, lora=lora, rngs=nnx.Rngs(0), **options)
    for path, variable in nnx.to_flat_state(nnx.state(model)):
        if path[-1] in ("lora_b", "weight") and "norm" not in path[-2]:
            noise = jax.random.normal(jax.random.key(len(str(path))), variable.shape)
            variable[...] = (0.3 * noise).astype(variable.dtype)
    return model


def tokens(rows=2, length=20):
    ids = np.random.default_rng(0).integers(0, MOE.vocab_size, (rows, length)).astype(np.int32)
    return ids, np.tile(np.arange(length, dtype=np.int32), (rows, 1)), np.ones((rows, length), np.int32)


forward = nnx.jit(lambda model, ids, *where, **options: model(ids, Pass(*where, **options)),
                  static_argnames=("adapters", "remat"))


@pytest.mark.parametrize("config", [MOE, DENSE], ids=["moe", "dense"])
def test_packing_two_sequences_in_a_row_changes_neither(config):
    model = build(config)
    ids, positions, segments = tokens()
    apart, _ = forward(model, ids, positions, segments)
    packed = np.concatenate([ids[0], ids[1, :9], np.zeros(3, np.int32)])[None]
    place = np.concatenate([positions[0], positions[1, :9], np.zeros(3, np.int32)])[None]
    segment = np.repeat([1, 2, 0], [20, 9, 3])[None]
    together, _ = forward(model, packed, place, segment)
    assert_close(together[0, :20], apart[0])
    assert_close(together[0, 20:29], apart[1, :9])


@pytest.mark.parametrize("config", [MOE, DENSE], ids=["moe", "dense"])
@pytest.mark.parametrize("prefill, apart", [(1, False), (7, True), (8, False), (9, True)])
def test_prefill_then_decode_equals_the_whole_row(config, prefill, apart, monkeypatch):
    monkeypatch.setattr(transformer, "APART_BYTES", (0, 1 << 28 if apart else 0))
    model = build(config)
    assert all((layers is not None) == apart for layers in model.apart())
    ids, positions, segments = tokens()
    whole, routing = forward(model, ids, positions, segments)
    cache = PagedCache.zeros(config, num_pages=7, page_size=8, dtype=jnp.float32)
    pages = np.array([[3, 1, 5], [2, 6, 4]])
    extend = nnx.jit(lambda model, ids, positions, cache,
                     pages: model.extend(ids, cache, Pass(positions, pages_BJ=pages), model.apart()))
    hidden, cache, _ = extend(model, ids[:, :prefill], positions[:, :prefill], cache, pages)
    parts = [hidden]
    for t in range(prefill, 20):
        hidden, cache, routed = extend(model, ids[:, t:t + 1], positions[:, t:t + 1], cache, pages)
        parts.append(hidden)
        if config is MOE:
            np.testing.assert_array_equal(routed.expert_ids[:, :, 0], routing.expert_ids[:, :, t])
    assert_close(np.concatenate(parts, axis=1), whole)


def test_padding_positions_write_to_the_trash_page_only():
    model = build()
    ids, positions, _ = tokens()
    cache = PagedCache.zeros(MOE, num_pages=7, page_size=8, dtype=jnp.float32)
    positions[1] = -1
    _, cache, _ = model.extend(ids, cache, Pass(positions, pages_BJ=np.array([[1, 2, 3], [4, 5, 6]])))
    assert np.asarray(cache.k[:, 1:3]).any() and not np.asarray(cache.k[:, 4:]).any()


def test_padding_tokens_reach_no_expert():
    model = build()
    ids, positions, segments = tokens(rows=4, length=40)
    segments[:, 30:] = 0
    _, routing = forward(model, ids, positions, segments)
    np.testing.assert_array_equal(routing.load.sum(axis=1), [4 * 30 * 2] * 2)


def test_rematerialisation_changes_no_gradient():
    graphdef, adapters, rest = nnx.split(build(), nnx.LoRAParam, ...)

    def loss(adapters, remat):
        ids, *where = tokens(4, 40)
        hidden, _ = nnx.merge(graphdef, adapters, rest)(ids, Pass(*where, remat=remat))
        return jnp.sum(jnp.sin(hidden))

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    expected = gradient(adapters, "none")
    for remat in ("mlp", "full"):
        assert_close(gradient(adapters, remat), expected)


@pytest.mark.slow
def test_what_is_computed_again_needs_no_memory():
    config = dataclasses.replace(MOE, num_layers=16, sparse_layers=(True,) * 16, windows=(0,) * 16)
    graphdef, adapters, rest = nnx.split(Transformer.abstract(config, lora=LORA, grouped_matmul="padded"),
                                         nnx.LoRAParam, ...)
    ids = jax.ShapeDtypeStruct((4, 256), jnp.int32)

    def loss(adapters, rest, ids, remat):
        return jnp.sum(nnx.merge(graphdef, adapters, rest)(ids, Pass(ids, ids, remat=remat))[0])

    done = [
        jax.jit(jax.grad(loss), static_argnums=3).lower(adapters, rest, ids, remat).compile()
        for remat in REMAT
    ]
    memory = [one.memory_analysis().temp_size_in_bytes for one in done]
    flops = [one.cost_analysis()["flops"] for one in done]  # of one layer: the scan's body counts once
    assert memory[0] > 1.2 * memory[1] and memory[1] > memory[2] and flops[0] < flops[1] < flops[2]


def test_adapters_off_is_the_model_without_adapters():
    with_adapters = build()
    without = build(lora=None)
    weights = dict(nnx.to_flat_state(nnx.state(with_adapters)))
    for path, variable in nnx.to_flat_state(nnx.state(without)):
        variable[...] = weights[path][...]
    reference, _ = forward(with_adapters, *tokens(), adapters=False)
    np.testing.assert_array_equal(reference, forward(without, *tokens())[0])
    assert np.abs(reference - forward(with_adapters, *tokens())[0]).max() > 1e-2


def test_fresh_adapters_change_nothing():
    model = Transformer(MOE, lora=LORA, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(forward(model, *tokens())[0], forward(model, *tokens(), adapters=False)[0])


def test_replayed_experts_are_the_ones_used_and_minus_one_routes_live():
    model = build()
    live, routing = forward(model, *tokens())
    same, _ = forward(model, *tokens(), expert_ids_LBTA=routing.expert_ids)
    np.testing.assert_array_equal(live, same)
    other = (routing.expert_ids + 1) % 4
    other = other.at[:, :, :5].set(-1)
    changed, replayed = forward(model, *tokens(), expert_ids_LBTA=other)
    np.testing.assert_array_equal(replayed.expert_ids[:, :, 5:], other[:, :, 5:])
    np.testing.assert_array_equal(changed[:, :5], live[:, :5])
    assert np.abs(changed[:, 5:] - live[:, 5:]).max() > 1e-3


def test_dropout_acts_on_adapters_only_and_keeps_the_mean():
    model = build(lora=dataclasses.replace(LORA, dropout=0.5))
    clean, _ = forward(model, *tokens())
    draws = [forward(model, *tokens(), dropout_key=jax.random.key(i))[0] for i in range(2)]
    assert np.abs(draws[0] - draws[1]).max() > 1e-3 and np.abs(draws[0] - clean).max() > 1e-3
    np.testing.assert_array_equal(draws[0], forward(model, *tokens(), dropout_key=jax.random.key(0))[0])
    linear = model.stacks[1].mlp.up_proj
    x = jnp.ones((2000, 1))
    assert abs(float(linear.dropped(x, jax.random.key(3)).mean()) - 1.0) < 0.1


def test_bfloat16_weights_keep_a_float32_router_and_adapters():
    model = build(dtype=jnp.bfloat16)
    types = {path[-2:]: variable.dtype for path, variable in nnx.to_flat_state(nnx.state(model))}
    assert types["router", "weight"] == jnp.float32 and types["q_proj", "lora_a"] == jnp.float32
    assert types["q_proj", "weight"] == jnp.bfloat16
    hidden, _ = forward(model, *tokens())
    assert hidden.dtype == jnp.bfloat16 and np.isfinite(np.asarray(hidden, np.float32)).all()


def test_the_compiled_program_does_not_grow_with_depth():
    def size(layers):
        config = dataclasses.replace(MOE, num_layers=layers, sparse_layers=(True,) * layers,
                                     windows=(0,) * layers)
        graphdef, state = nnx.split(Transformer.abstract(config, lora=LORA))
        ids, *where = tokens()
        lowered = jax.jit(lambda state: nnx.merge(graphdef, state)(ids, Pass(*where))[0]).lower(state)
        return lowered.as_text().count("\n")

    assert size(12) == size(2)


def test_a_lora_target_that_matches_nothing_is_refused():
    with pytest.raises(ModelConfigError, match=r"'qproj'.*attention.q_proj"):
        Transformer(MOE, lora=dataclasses.replace(LORA, targets=("v_proj", "qproj")), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("target, count", [("q_proj", 1), ("all-linear", 7), (r"attention\..*", 4),
                                           ("mlp.down_proj", 1)])
def test_lora_targets_select_layers(target, count):
    model = Transformer.abstract(dataclasses.replace(MOE, sparse_layers=(True,) * 3),
                                 lora=dataclasses.replace(LORA, targets=(target,)))
    assert sum(path[-1] == "lora_a" for path, _ in nnx.to_flat_state(nnx.state(model))) == count
