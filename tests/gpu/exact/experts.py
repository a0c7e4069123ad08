"""Grouped products and the experts' MLP, forward and backward: empty experts, all rows to one, rows that
belong to none."""
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_moe.kernels.expert_mlp import Adapters, ExpertWeight, ExpertWeights, Groups, expert_mlp
from jaxrl_moe.kernels.grouped_matmul import grouped_matmul
from tests.gpu.exact import oracle
from tests.gpu.exact.check import ALL, BFLOAT16, FLOAT32, Check, Precision, normal

ROWS = 512
D = 256
F = 128
EXPERTS = 8
RANK = 16
SCALE = 1.7
SIZES = {
    "empty experts": (130, 0, 257, 1, 0, 64, 60, 0),
    "all rows to one expert": (0, 0, 512, 0, 0, 0, 0, 0),
    "rows that belong to none": (3, 0, 100, 0, 7, 128, 1, 20),
    "no rows": (0,) * 8,
}
# tokamax's kernels for Hopper take bfloat16
BACKENDS = {"padded": ALL, "ragged": (FLOAT32, BFLOAT16), "tokamax": (BFLOAT16,)}


def checks() -> list[Check]:
    return [check for backend, precisions in BACKENDS.items() for name in SIZES for precision in precisions
            for check in _of(backend, name, precision)]


def _of(backend: str, name: str, precision: Precision) -> list[Check]:
    label = f"{backend}, {name}, {precision.name}"
    tokamax = backend == "tokamax"
    found = [
        Check(f"grouped_matmul {label}", precision, lambda: product(backend, SIZES[name], precision),
              tokamax),
        Check(f"expert_mlp {label}", precision, lambda: mlp(backend, SIZES[name], precision), tokamax)
    ]
    if sum(SIZES[name]) < ROWS and backend == "padded":
        found.append(
            Check(f"grouped_matmul {label}, a third expected", precision,
                  lambda: product(backend, SIZES[name], precision, 3)))
    return found


def product(backend: str, sizes, precision: Precision, share: int = 1):
    pairs = [
        normal(seed, shape, precision.dtype)
        for seed, shape in enumerate([(ROWS, D), (EXPERTS, D, F), (ROWS, F)])
    ]

    @jax.jit
    def ours(x, w, gradient):
        y, back = jax.vjp(lambda x, w: grouped_matmul(x, w, jnp.array(sizes), backend, share), x, w)
        return y, *back(gradient)

    return zip(("y", "dx", "dw"), ours(*(array for array, _ in pairs)),
               oracle.grouped(pairs[0][1], pairs[1][1], sizes, pairs[2][1]))


def mlp(backend: str, sizes, precision: Precision):
    x, gradient = (normal(seed, (ROWS, D), precision.dtype) for seed in (10, 11))
    ours, exact = zip(*(_weight(seed, shape, precision.dtype)
                        for seed, shape in ((20, (D, F)), (30, (D, F)), (40, (F, D)))))

    @jax.jit
    def run(x, weights, gradient):
        def rows(x, weights):
            return expert_mlp(x, ExpertWeights(*weights), Groups(jnp.array(sizes)), Adapters(SCALE), backend)

        y, back = jax.vjp(rows, x, weights)
        return y, *back(gradient)

    y, dx, found = run(x[0], ours, gradient[0])
    wanted_y, wanted_dx, wanted = oracle.experts(x[1], exact, sizes, SCALE, gradient[1])
    yield from (("y", y, wanted_y), ("dx", dx, wanted_dx))
    for name, mine, right in zip(("gate", "up", "down"), found, wanted):
        yield from ((f"d{name}.{part}", one, two) for part, one, two in zip(("w", "a", "b"), mine, right))


def _weight(seed: int, shape, dtype) -> tuple[ExpertWeight, oracle.Weight]:
    """Adapters are float32 that the computing type holds exactly, as they are rounded to it."""
    size_in, size_out = shape
    w, wanted_w = normal(seed, (EXPERTS, *shape), dtype, size_in ** -0.5)
    a, wanted_a = normal(seed + 1, (EXPERTS, size_in, RANK), dtype, size_in ** -0.5)
    b, wanted_b = normal(seed + 2, (EXPERTS, RANK, size_out), dtype, RANK ** -0.5)
    return ExpertWeight(w, a.astype(np.float32),
                        b.astype(np.float32)), oracle.Weight(wanted_w, wanted_a, wanted_b)
