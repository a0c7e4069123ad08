import jax
import jax.numpy as jnp
import pytest

from jaxrl_moe.kernels import tiles
from jaxrl_moe.kernels.expert_mlp import Adapters, ExpertWeight, ExpertWeights, Groups, expert_mlp
from jaxrl_moe.kernels.grouped_matmul import grouped_matmul
from tests.gpu.exact.oracle import spans
from tests.helpers.close import assert_close

SIZES = {
    "uneven": [5, 0, 33, 2],
    "all to one": [0, 0, 40, 0],
    "all to the last": [0, 0, 0, 40],
    "padding rows": [3, 4, 0, 1],
    "none": [0, 0, 0, 0],
    "one row": [0, 1, 0, 0],
    "beyond a tile": [140, 17, 0, 30],
}
D = 12
F = 8
E = 4
r = 3
SCALE = 1.7


def total_rows(sizes):
    return max(40, sum(sizes))


def both(function, loss, *arguments):
    """The value and the gradients by both arguments, compiled together."""
    return jax.jit(lambda *a: (function(*a), jax.grad(loss, (0, 1))(*a)))(*arguments)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("backend", ["tiles", "padded", "ragged"])
@pytest.mark.parametrize("name", SIZES)
def test_grouped_matmul_and_its_gradients_equal_a_loop_over_experts(backend, name):
    sizes = SIZES[name]
    x = normal(0, total_rows(sizes), D)
    w = normal(1, E, D, F)
    target = normal(2, total_rows(sizes), F)

    def loop(x, w):
        y = jnp.zeros((x.shape[0], F))
        for e, rows in spans(sizes):
            y = y.at[rows].set(jnp.dot(x[rows], w[e], precision="highest"))
        return y

    def loss(function):
        return lambda x, w: jnp.sum(function(x, w) * target)

    def ours(x, w):
        return grouped_matmul(x, w, jnp.array(sizes), backend)

    assert_close(*(both(function, loss(function), x, w) for function in (ours, loop)))


@pytest.mark.parametrize("backend", ["tiles", "padded"])
def test_rows_of_which_few_belong_to_a_group_give_the_same(backend, monkeypatch):
    monkeypatch.setattr(tiles, "STEP_BLOCKS", 2)
    x = normal(0, 1000, D)
    sizes = jnp.array([140, 17, 0, 30])
    w = normal(1, E, D, F)
    target = normal(2, 1000, F)

    def ours(share):
        def product(x, w):
            return grouped_matmul(x, w, sizes, backend, share)
        return both(product, lambda x, w: jnp.sum(product(x, w) * target), x, w)

    assert_close(ours(5), ours(1))


def weights(adapters):
    shapes = {"gate": (D, F), "up": (D, F), "down": (F, D)}
    result = []
    for seed, (size_in, size_out) in enumerate(shapes.values()):
        low = (0.3 * normal(10 + seed, E, size_in, r),
               0.3 * normal(20 + seed, E, r, size_out)) if adapters else (None, None)
        result.append(ExpertWeight(0.3 * normal(seed, E, size_in, size_out), *low))
    return result


def loop_mlp(x, gate, up, down, sizes):
    def linear(x, weight, e):
        y = jnp.dot(x, weight.w[e], precision="highest")
        if weight.a is None:
            return y
        return y + SCALE * jnp.dot(jnp.dot(x, weight.a[e], precision="highest"), weight.b[e],
                                   precision="highest")

    y = jnp.zeros_like(x)
    for e, rows in spans(sizes):
        hidden = jax.nn.silu(linear(x[rows], gate, e)) * linear(x[rows], up, e)
        y = y.at[rows].set(linear(hidden, down, e))
    return y


@pytest.mark.parametrize("adapters", [True, False])
@pytest.mark.parametrize("backend", ["tiles", "padded", "ragged"])
@pytest.mark.parametrize("name", SIZES)
def test_expert_mlp_and_every_gradient_equal_a_loop_over_experts(backend, name, adapters):
    sizes = SIZES[name]
    x = 0.3 * normal(5, total_rows(sizes), D)
    experts = weights(adapters)
    target = normal(6, total_rows(sizes), D)

    def loss(function):
        return lambda x, experts: jnp.sum(function(x, experts) * target)

    def ours(x, experts):
        return expert_mlp(x, ExpertWeights(*experts), Groups(jnp.array(sizes)), Adapters(SCALE), backend)

    def loop(x, experts):
        return loop_mlp(x, *experts, sizes)

    assert_close(*(both(function, loss(function), x, experts) for function in (ours, loop)))


def dots(jaxpr):
    """Matrix products in a program, those of inner programs included."""
    count = 0
    for equation in jaxpr.eqns:
        count += equation.primitive.name == "dot_general"
        for value in jax.tree.leaves(list(equation.params.values()),
                                     is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            count += dots(inner) if hasattr(inner, "eqns") else 0
    return count


def test_a_frozen_weight_has_no_gradient_product():
    gate, up, down = weights(adapters=False)
    x = normal(5, 40, D)
    sizes = jnp.array([10, 10, 10, 10])

    def loss(x, experts):
        return jnp.sum(expert_mlp(x, ExpertWeights(*experts), Groups(sizes), backend="tiles") ** 2)

    frozen = jax.make_jaxpr(jax.grad(loss, 0))(x, (gate, up, down)).jaxpr
    trained = jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, (gate, up, down)).jaxpr
    assert dots(trained) == dots(frozen) + 3


def test_bfloat16_rows_stay_close_to_float32():
    sizes = jnp.array([7, 0, 20, 13])
    experts = weights(True)
    x = 0.3 * normal(5, 40, D)
    weights_and_rows = ExpertWeights(*experts), Groups(sizes), Adapters(SCALE), "tiles"
    exact = expert_mlp(x, *weights_and_rows)
    half = expert_mlp(x.astype(jnp.bfloat16), *weights_and_rows)
    assert half.dtype == jnp.bfloat16
    assert_close(half, exact, 0.05)
