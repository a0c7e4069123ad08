"""Kernels ask a weight for its products and know no format: an int8 kind that only the tests have goes
through all of them.
"""
import inspect
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_moe.kernels.expert_mlp import Adapters, ExpertWeight, ExpertWeights, Groups, expert_mlp
from jaxrl_moe.kernels.grouped_matmul import grouped_matmul
from jaxrl_moe.kernels.token_logprobs import token_logprobs
from jaxrl_moe.kernels.weight import Dense, Transposed, WeightMatrix, multiply
from tests.gpu.exact.oracle import spans
from tests.helpers.close import assert_close
from tests.helpers.int8 import Hidden, Int8
from tests.helpers.programs import arrays_of, count_of

D = 12
F = 8
E = 4
r = 3
SCALE = 1.7
ROWS = 190
SIZES = {
    "uneven": [5, 0, 33, 2],
    "all to one": [0, 0, 40, 0],
    "padding rows": [3, 4, 0, 1],
    "none": [0, 0, 0, 0],
    "beyond a tile": [140, 17, 0, 30],
}
BACKENDS = ["tiles", "padded", "ragged"]


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def exact(array):
    return np.asarray(array, np.float64)


def numbers(weight):
    """What a weight stands for, by the kinds' own rules written once more."""
    if isinstance(weight, Transposed):
        return numbers(weight.weight).swapaxes(-1, -2)
    return exact(weight.codes) * exact(weight.scales) if isinstance(weight, Int8) else exact(weight.array)


KINDS = {
    "dense": lambda array: Dense(array),
    "int8": Int8.of,
    "transposed": lambda array: Transposed(Int8.of(array.swapaxes(-1, -2))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_keeps_every_promise(kind):
    weight = KINDS[kind](normal(0, E, D, F))
    w = numbers(weight)
    x = normal(1, E, 5, D)
    g = normal(2, E, 5, F)
    assert weight.shape == (E, D, F) and weight.dtype == jnp.float32
    assert_close(weight.matmul(x), exact(x) @ w)
    assert_close(weight.matmul_t(g), exact(g) @ w.swapaxes(-1, -2))
    half = weight.matmul(x.astype(jnp.bfloat16)), weight.matmul(x.astype(jnp.bfloat16), jnp.float32)
    assert [y.dtype for y in half] == [jnp.bfloat16, jnp.float32]
    assert weight.matmul_t(g.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    single = weight.take(jnp.int32(2))
    several = weight.take(jnp.array([3, 0, 3]))
    assert single.shape == (D, F) and several.shape == (3, D, F)
    assert_close(single.matmul(x[2]), exact(x[2]) @ w[2])
    assert_close(several.matmul(x[:3]), exact(x[:3]) @ w[[3, 0, 3]])
    assert_close(single.rows(jnp.array([[7, 0], [11, 7]])), w[2][[[7, 0], [11, 7]]])
    assert weight.transposed().shape == (E, F, D)
    assert_close(weight.transposed().matmul(g), exact(g) @ w.swapaxes(-1, -2))
    assert_close(weight.transposed().matmul_t(x), exact(x) @ w)
    assert_close(weight.dense(jnp.float32), w)
    for axis in (-2, -1):
        twice = weight.gathered(lambda array, axis: jnp.concatenate([array, array], axis), axis)
        assert_close(twice.dense(jnp.float32), np.concatenate([w, w], axis))
    if weight.trains:
        assert_close(weight.gradient(jnp.asarray(w, jnp.float32)).dense(jnp.float32), w)


@pytest.mark.parametrize("kind", [Dense, Int8, Transposed])
def test_a_kind_has_all_that_the_protocol_names(kind):
    for name, member in vars(WeightMatrix).items():
        if name.startswith("_"):
            continue
        own = inspect.getattr_static(kind, name, None)
        if inspect.isfunction(member):
            assert list(inspect.signature(own).parameters) == list(inspect.signature(member).parameters), name
        elif isinstance(member, property) and name not in kind.__dataclass_fields__:
            assert isinstance(own, property), name
    assert isinstance(kind.trains, bool)


def test_bytes_are_those_of_codes_and_scales():
    array = normal(0, E, D, F)
    assert Int8.of(array).nbytes == E * D * F + 4 * E * F
    assert Transposed(Int8.of(array)).nbytes == E * D * F + 4 * E * F
    assert Dense(array.astype(jnp.bfloat16)).nbytes == 2 * E * D * F


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SIZES)
def test_grouped_products_of_int8_equal_a_loop_over_decoded_experts(backend, name):
    sizes = SIZES[name]
    weight = Int8.of(normal(1, E, D, F))
    x = normal(0, ROWS, D)
    dy = normal(2, ROWS, F)
    w = numbers(weight)
    wanted_y = np.zeros((ROWS, F))
    wanted_dx = np.zeros((ROWS, D))
    for e, rows in spans(sizes):
        wanted_y[rows] = exact(x[rows]) @ w[e]
        wanted_dx[rows] = exact(dy[rows]) @ w[e].T

    @jax.jit
    def run(x, weight):
        y, back = jax.vjp(lambda x, weight: grouped_matmul(x, weight, jnp.array(sizes), backend), x, weight)
        dx, gradient = back(dy)
        return y, dx, gradient.scales

    y, dx, by_scales = run(x, weight)
    assert_close((y, dx), (wanted_y, wanted_dx))
    assert not np.asarray(by_scales).any()


def int8_experts():
    """The three matrices with adapters."""
    shapes = [(D, F), (D, F), (F, D)]

    def weight(seed, size_in, size_out):
        low = 0.3 * normal(10 + seed, E, size_in, r), 0.3 * normal(20 + seed, E, r, size_out)
        return ExpertWeight(Int8.of(0.3 * normal(seed, E, size_in, size_out)), *low)

    return ExpertWeights(*(weight(seed, *shape) for seed, shape in enumerate(shapes)))


def mlp_oracle(x, experts, sizes, dy):
    """(y, dx, the gradients of the adapters) in float64, by hand."""
    x = exact(x)
    dy = exact(dy)
    y = np.zeros(x.shape)
    dx = np.zeros(x.shape)
    low = [(numbers(weight.w), exact(weight.a), exact(weight.b)) for weight in experts]
    gradients = [(np.zeros(a.shape), np.zeros(b.shape)) for _, a, b in low]
    for e, rows in spans(sizes):
        gate, up, down = (w[e] + SCALE * a[e] @ b[e] for w, a, b in low)
        g = x[rows] @ gate
        u = x[rows] @ up
        sigmoid = 1 / (1 + np.exp(-g))
        h = g * sigmoid * u
        y[rows] = h @ down
        dh = dy[rows] @ down.T
        dg = dh * u * sigmoid * (1 + g * (1 - sigmoid))
        du = dh * g * sigmoid
        dx[rows] = dg @ gate.T + du @ up.T
        sides = zip(low, gradients, (x[rows], x[rows], h), (dg, du, dy[rows]))
        for (_, a, b), (da, db), rows_in, slope in sides:
            da[e] = SCALE * rows_in.T @ slope @ b[e].T
            db[e] = SCALE * (rows_in @ a[e]).T @ slope
    return y, dx, gradients


CASES = [(backend, name, False) for backend in BACKENDS for name in SIZES]


DROPPED = [("tiles", "uneven", True), ("padded", "uneven", True)]


@pytest.mark.parametrize("backend, name, dropout", CASES + DROPPED)
def test_int8_experts_with_adapters_equal_a_loop_over_decoded_experts(backend, name, dropout):
    """With dropout the MLP is three products and those of the adapters, on every backend."""
    sizes = SIZES[name]
    experts = int8_experts()
    x = 0.3 * normal(5, ROWS, D)
    dy = normal(6, ROWS, D)
    adapters = Adapters(SCALE, (lambda name, x: x) if dropout else None)

    def product(x, experts):
        return expert_mlp(x, experts, Groups(jnp.array(sizes)), adapters, backend)

    @jax.jit
    def run(x, experts):
        y, back = jax.vjp(product, x, experts)
        dx, gradients = back(dy)
        by_scales = [weight.w.scales for weight in gradients]
        return y, dx, [(weight.a, weight.b) for weight in gradients], by_scales

    *got, by_scales = run(x, experts)
    assert_close(got, mlp_oracle(x, experts, sizes, dy))
    assert not any(np.asarray(scales).any() for scales in by_scales)


def test_experts_are_decoded_one_by_one_and_have_no_gradient_product():
    x = 0.3 * normal(5, 40, D)
    sizes = jnp.array([10, 10, 10, 10])

    def loss(x, experts):
        return jnp.sum(expert_mlp(x, experts, Groups(sizes), backend="tiles") ** 2)

    int8 = ExpertWeights(*(ExpertWeight(weight.w) for weight in int8_experts()))
    dense = ExpertWeights(*(ExpertWeight(weight.w.dense(jnp.float32)) for weight in int8))
    asked = jax.make_jaxpr(jax.grad(loss, (0, 1), allow_int=True))(x, int8).jaxpr
    frozen = jax.make_jaxpr(jax.grad(loss, 0))(x, dense).jaxpr
    assert count_of(asked, "dot_general") == count_of(frozen, "dot_general")
    stacks = [array for array in arrays_of(asked) if array.shape in ((E, D, F), (E, F, D))]
    assert not any(jnp.issubdtype(array.dtype, jnp.floating) for array in stacks)


def test_layers_of_int8_experts_are_scanned_over():
    sizes = jnp.array(SIZES["uneven"])
    experts = int8_experts()
    layers = [experts, jax.tree.map(lambda array: array[::-1], experts)]
    x = 0.3 * normal(5, 40, D)
    stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *layers)
    assert stacked.gate.w.shape == (2, E, D, F)

    def scanned(x, stacked):
        def layer(x, experts):
            return expert_mlp(x, experts, Groups(sizes), Adapters(SCALE)), None

        return jax.lax.scan(layer, x, stacked)[0]

    wanted = x
    for experts in layers:
        wanted, *_ = mlp_oracle(wanted, experts, SIZES["uneven"], np.zeros((40, D)))
    assert_close(jax.jit(scanned)(x, stacked), wanted)


@pytest.mark.parametrize("backend", ["ragged", "tokamax"])
def test_backends_of_dense_matrices_are_given_them_or_say_that_there_are_none(backend, monkeypatch):
    def ragged_dot(x, w, *, group_sizes, implementation):
        return jax.lax.ragged_dot(x, w, group_sizes)

    monkeypatch.setitem(sys.modules, "tokamax", types.SimpleNamespace(ragged_dot=ragged_dot))
    monkeypatch.setattr("jaxrl_moe.kernels.grouped_matmul._refused_by_tokamax", lambda x, w: "")
    x = normal(0, 40, D)
    weight = Int8.of(normal(1, E, D, F))
    sizes = jnp.array([10, 0, 20, 3])
    hidden = Hidden(weight.codes, weight.scales)

    def both(weight, backend):
        def run(x):
            return grouped_matmul(x, weight, sizes, backend)
        return run(x), jax.grad(lambda x: jnp.sum(run(x) ** 2))(x)

    wanted = both(weight, "tiles")
    assert_close(both(weight, backend), wanted)
    assert_close(both(hidden, "tiles"), wanted)
    if backend == "ragged":
        with pytest.raises(ValueError, match="'ragged' multiplies with dense .*kind Hidden.*tiles or padded"):
            both(hidden, backend)
    else:
        with pytest.warns(UserWarning, match="weights of the kind Hidden: .* through the backend padded"):
            got = both(hidden, backend)
        assert_close(got, wanted)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("frozen", [True, False])
def test_logprobs_over_an_int8_output_matrix(tied, frozen):
    tokens = 37
    vocabulary = 50
    table = Int8.of(normal(1, vocabulary, D)).transposed() if tied else Int8.of(normal(1, D, vocabulary))
    hidden = normal(0, tokens, D)
    weights = jnp.arange(tokens)
    targets = jax.random.randint(jax.random.key(2), (tokens,), 0, vocabulary)

    def loss(hidden, head):
        options = dict(entropy=True, frozen_head=frozen, chunk=16)
        logprobs, entropies = token_logprobs(hidden, head, targets, 0.7, **options)
        return jnp.sum(weights * logprobs) + jnp.sum(entropies)

    ours = jax.jit(jax.value_and_grad(loss))(hidden, table)
    logits = exact(hidden) @ numbers(table) / 0.7
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    shares = np.exp(logprobs)
    chosen = np.eye(vocabulary)[np.asarray(targets)]
    entropy = -(shares * logprobs).sum(axis=1, keepdims=True)
    slopes = exact(weights)[:, None] * (chosen - shares) - shares * (logprobs + entropy)
    wanted = (exact(weights) * (logprobs * chosen).sum(axis=1)).sum() + entropy.sum()
    assert_close(ours, (wanted, slopes @ numbers(table).T / 0.7))


def test_a_frozen_product_keeps_codes_for_its_backward_pass():
    x = normal(0, 5, D)
    weight = Int8.of(normal(1, D, F))
    y, back = jax.vjp(lambda x: multiply(x, weight), x)
    assert_close((y, back(y)[0]), (exact(x) @ numbers(weight), exact(y) @ numbers(weight).T))
    kept = [array for array in jax.tree.leaves(back) if array.shape == weight.shape]
    assert [array.dtype for array in kept] == [jnp.int8]
