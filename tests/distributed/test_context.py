"""Parts of rows on the devices of the context axis: equal work, half of what all queries over all keys would
be."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from jaxrl_moe.distributed.collectives import inside
from jaxrl_moe.distributed.context import block_pairs, chunk_order, from_devices, to_devices
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.kernels import paired_attention
from jaxrl_moe.kernels.attention import Visibility, attention
from jaxrl_moe.model.attention import Attention
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.passes import LayerPass
from jaxrl_moe.model.rope import rotary
from tests.helpers.attention import inputs
from tests.helpers.close import assert_close


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_tokens_that_go_to_the_devices_come_back(parts):
    x = np.arange(3 * 16).reshape(3, 16)
    there = to_devices(x, 1, parts)
    np.testing.assert_array_equal(from_devices(there, 1, parts), x)
    if parts > 1:  # the first and the last chunk are the first device's
        chunk = 16 // parts // 2
        np.testing.assert_array_equal(there[:, :2 * chunk],
                                      np.concatenate([x[:, :chunk], x[:, -chunk:]], axis=1))


def test_rows_that_cannot_be_cut_are_refused():
    with pytest.raises(ValueError, match="18 tokens cannot be cut into 4 chunks"):
        to_devices(np.zeros((1, 18)), 1, 2)


@pytest.mark.parametrize("parts, blocks", [(2, 1), (4, 1), (4, 3), (8, 2)])
def test_every_device_has_as_many_pairs_and_together_each_that_matters_once(parts, blocks):
    table = block_pairs(parts, blocks)  # one array: equally many for each
    # by where blocks lie
    order = np.array([chunk * blocks + block for chunk in chunk_order(parts) for block in range(blocks)])
    mine = 2 * blocks
    met = sorted(
        (order[part * mine + query], order[key]) for part in range(parts) for query, key in table[part])
    assert met == [(query, key) for query in range(parts * mine) for key in range(query + 1)]
    assert table.shape[1] / (mine * parts * mine) == pytest.approx(0.5, abs=0.5 / (parts * mine) + 1e-9)


@pytest.mark.parametrize("parts, length, window, largest", [(2, 24, 0, 512), (4, 96, 0, 6), (2, 120, 9, 10)])
def test_parts_of_rows_have_the_outputs_and_gradients_of_whole_ones(parts, length, window, largest,
                                                                    monkeypatch):
    monkeypatch.setattr(paired_attention, "LARGEST_BLOCK", largest)
    q, k, v, positions, segments = inputs(length, 4, 2)
    valid = (segments > 0)[..., None, None]
    probe = np.random.default_rng(0).normal(size=q.shape).astype(np.float32)
    chunk = length // parts // 2
    blocks = paired_attention.block_count(chunk)
    assert chunk // blocks <= largest

    def whole(q, k, v):
        return attention(q, k, v, Visibility(positions, positions, segments, segments, jnp.int32(window)),
                         "xla")

    def split(q, k, v):
        q, k, v, p, s = (to_devices(x, 1, parts) for x in (q, k, v, positions, segments))
        outs = []
        for part, pairs in enumerate(block_pairs(parts, blocks)):
            own = slice(part * 2 * chunk, (part + 1) * 2 * chunk)
            seen = Visibility(p[:, own], p, s[:, own], s, jnp.int32(window))
            outs.append(attention(q[:, own], k, v, seen, pairs=(chunk // blocks, jnp.asarray(pairs))))
        return from_devices(jnp.concatenate(outs, axis=1), 1, parts)

    def both(function):
        def loss(q, k, v):
            out = jnp.where(valid, function(q, k, v), 0)
            return jnp.sum(out * probe), out
        return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)

    assert_close(both(split), both(whole))


def score_area(jaxpr, times=1):
    """Elements of the scores that a program's products form, loops counted as often as they run."""
    area = 0
    for equation in jaxpr.eqns:
        inner = times * equation.params.get("length", 1) if equation.primitive.name == "scan" else times
        assert equation.primitive.name != "while"
        shape = equation.outvars[0].aval.shape
        # a head's width is in all other products
        if equation.primitive.name == "dot_general" and len(shape) == 5 and 8 not in shape:
            area += times * int(np.prod(shape))
        for value in jax.tree.leaves(list(equation.params.values()),
                                     is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
            value = getattr(value, "jaxpr", value)
            area += score_area(value, inner) if hasattr(value, "eqns") else 0
    return area


@pytest.mark.parametrize("parts", [2, 4])
def test_a_device_forms_half_of_the_scores_of_its_queries_over_all_keys(parts, monkeypatch):
    monkeypatch.setattr(paired_attention, "LARGEST_BLOCK", 4)
    batch = 3
    length = 96
    heads = 2
    config = ModelConfig("qwen3", 64, 16, 1, heads, 1, 8, 32, (False,), (0,))
    graphdef, state = nnx.split(Attention(config, stack=(), lora=None, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    place = make_placement({"context": parts})
    tokens = PartitionSpec(None, "context")

    def local(state, x_BTD, positions_BT):
        with inside(place.layout):
            segments_BT = jnp.ones_like(positions_BT)
            where = LayerPass(positions_BT, segments_BT, *rotary(config, positions_BT, segments_BT))
            return nnx.merge(graphdef, state)(x_BTD, where)[0]

    mapped = jax.shard_map(local, mesh=place.mesh, in_specs=(PartitionSpec(), tokens, tokens),
                           out_specs=tokens, check_vma=False)
    jaxpr = jax.make_jaxpr(mapped)(state, jnp.zeros((batch, length, 16)), jnp.zeros((batch, length),
                                                                                    jnp.int32))
    everything = batch * heads * length * length // parts
    assert score_area(jaxpr.jaxpr) == pytest.approx(everything / 2, rel=4 / length + 1e-9) and score_area(
        jaxpr.jaxpr) >= everything / 2
