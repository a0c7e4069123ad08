"""The kernels that are timed, at the 30B shape (or tiny ones), with what they must compute and move at the
least."""
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_moe.kernels.attention import Visibility, attention
from jaxrl_moe.kernels.expert_mlp import Adapters, ExpertWeight, ExpertWeights, Groups, expert_mlp
from jaxrl_moe.kernels.grouped_matmul import grouped_matmul
from jaxrl_moe.kernels.token_logprobs import token_logprobs

PRODUCT = "ceiling: a large bfloat16 product"
COPY = "ceiling: a large copy on the device"


class Kernel(NamedTuple):
    """What is timed.

    Attributes:
      make: a key to the arguments of one call, random, on the device.
      run: the function.
      flops, bytes: of one call, at the least: each input read once, each output written once.
      gpu_only: its library is no part of a machine without a GPU.
    """
    name: str
    make: Callable[[Any], tuple]
    run: Callable[..., Any]
    flops: float
    bytes: float
    gpu_only: bool = False


class Size(NamedTuple):
    """B rows of T tokens, R routed rows (and those of a decode step), the model's letters; side and copied
    set the ceilings."""
    B: int
    T: int
    N: int
    K: int
    H: int
    D: int
    F: int
    E: int
    A: int
    r: int
    V: int
    U: int
    side: int
    copied: int

    @property
    def R(self) -> int:
        return self.B * self.T * self.A


FULL = Size(B=4, T=2048, N=32, K=4, H=128, D=2048, F=768, E=128, A=8, r=16, V=151936, U=128, side=8192,
            copied=1 << 31)
TINY = Size(B=1, T=128, N=4, K=2, H=64, D=64, F=32, E=8, A=2, r=4, V=512, U=4, side=256, copied=1 << 20)


def normal(key, shape, std=1.0):
    """Random bfloat16 numbers: on zeros a card may run faster than on any real data."""
    return (std * jax.random.normal(key, shape, jnp.float32)).astype(jnp.bfloat16)


def keys(key, count: int):
    return jax.random.split(key, count)


def ceilings(size: Size) -> list[Kernel]:
    side = size.side
    count = size.copied // 2
    return [
        Kernel(PRODUCT, lambda key: tuple(normal(k, (side, side)) for k in keys(key, 2)), jnp.matmul,
               2.0 * side**3, 6.0 * side**2),
        Kernel(
            COPY, lambda key:
            (jax.lax.bitcast_convert_type(jax.random.bits(key, (count,), jnp.uint16), jnp.int16),),
            jnp.copy, 0.0, 4.0 * count)
    ]


def kernels(size: Size) -> list[Kernel]:
    """The dearest last, so that a time box that ends early has most of them."""
    return [*decoding(size), *products(size), *heads(size), *attentions(size)]


def forward_and_back(function):
    """One call of the value and its gradients by all arguments but the last, which is the gradient by the
    value."""
    def both(*arguments):
        out, back = jax.vjp(function, *arguments[:-1])
        return out, back(arguments[-1])
    return both


def attentions(size: Size) -> list[Kernel]:
    positions = np.tile(np.arange(size.T, dtype=np.int32), (size.B, 1))
    seen = Visibility(positions, positions, np.ones_like(positions), np.ones_like(positions))
    queries = (size.B, size.T, size.N, size.H)
    shared = (size.B, size.T, size.K, size.H)
    flops = 4.0 * size.B * size.N * size.H * size.T * (size.T + 1) / 2  # of the pairs that see each other
    moved = 2.0 * (2 * np.prod(queries) + 2 * np.prod(shared))
    found = []
    for backend in ("causal", "cudnn", "chunked"):
        run = functools.partial(attention, visibility=seen, backend=backend, whole_rows=True)
        found += [
            Kernel(f"attention {backend}, {size.B} x {size.T}, forward",
                   lambda key: tuple(normal(k, s) for k, s in zip(keys(key, 3), (queries, shared, shared))),
                   run, flops, moved, backend == "cudnn"),
            Kernel(
                f"attention {backend}, {size.B} x {size.T}, forward and backward", lambda key: tuple(
                    normal(k, s) for k, s in zip(keys(key, 4), (queries, shared, shared, queries))),
                forward_and_back(run), 3.5 * flops, 3 * moved, backend == "cudnn")
        ]
    return found


def sizes(key, size: Size, rows: int):
    """Rows of each expert as a router might have it: uneven, as multinomial draws over random shares."""
    share = jax.nn.softmax(0.5 * jax.random.normal(key, (size.E,)))
    return jnp.bincount(jax.random.categorical(key, jnp.log(share), shape=(rows,)),
                        length=size.E).astype(jnp.int32)


def products(size: Size) -> list[Kernel]:
    R = size.R
    D = size.D
    F = size.F
    E = size.E
    flops = 2.0 * R * D * F
    moved = 2.0 * (R * D + E * D * F + R * F)
    shapes = {"forward": [(R, D), (E, D, F)], "forward and by rows": [(R, D), (E, D, F), (R, F)]}
    found = []
    for backend in ("padded", "tokamax"):
        for what, wanted in shapes.items():
            def make(key, wanted=wanted):
                arrays = [normal(k, shape, shape[-2] ** -0.5) for k, shape in zip(keys(key, 3), wanted)]
                return (*arrays[:2], sizes(key, size, R), *arrays[2:])

            passes = len(wanted) - 1
            found.append(Kernel(f"grouped_matmul {backend}, {R} "
                                f"rows, {what}", make, _product(backend, passes > 1), passes * flops,
                                passes * moved, backend == "tokamax"))
        found += _mlp(size, backend)
    return found


def _product(backend: str, back: bool):
    if not back:
        return lambda x, w, rows: grouped_matmul(x, w, rows, backend)
    return lambda x, w, rows, gradient: forward_and_back(lambda x: grouped_matmul(x, w, rows, backend))(
        x, gradient)


def _mlp(size: Size, backend: str) -> list[Kernel]:
    """The whole MLP with adapters, its frozen matrices without a gradient."""
    R = size.R
    D = size.D
    F = size.F
    E = size.E
    r = size.r

    def make(key):
        x, gradient, *rest = keys(key, 12)
        shapes = [(E, D, F), (E, D, r), (E, r, F)] * 2 + [(E, F, D), (E, F, r), (E, r, D)]
        arrays = [normal(k, shape, shape[1] ** -0.5) for k, shape in zip(rest, shapes)]
        return (normal(x, (R, D)), arrays[::3], arrays[1::3], arrays[2::3], sizes(key, size, R),
                normal(gradient, (R, D)))

    def run(x, ws, low, high, rows, gradient):
        def mlp(x, low, high):
            weights = ExpertWeights(*map(ExpertWeight, ws, low, high))
            return expert_mlp(x, weights, Groups(rows), Adapters(2.0), backend)
        return forward_and_back(mlp)(x, low, high, gradient)

    flops = 4.0 * R * 3 * D * F + 6.0 * R * 3 * r * (D + F)
    moved = 2.0 * (2 * 3 * E * D * F + 4 * R * D)
    return [Kernel(f"expert_mlp {backend}, {R} rows, adapters of rank {r}, forward "
                   "and backward", make, run, flops, moved,
                   backend == "tokamax")]


def decoding(size: Size) -> list[Kernel]:
    """What a decode step does in a layer: all experts' products for U sequences, one query each over T / 2
    keys."""
    U = size.U
    S = size.T // 2
    shared = (U, S, size.K, size.H)
    ones = np.ones((U, S), np.int32)
    positions = np.tile(np.arange(S, dtype=np.int32), (U, 1))
    seen = Visibility(positions[:, -1:], positions, ones[:, :1], ones)

    def make(key):
        return tuple(normal(k, s) for k, s in zip(keys(key, 3), ((U, 1, size.N, size.H), shared, shared)))

    rows = U * size.A
    per_expert = size.E * size.D * size.F

    def make_product(key):
        x, w = keys(key, 2)
        return normal(x, (rows, size.D)), normal(w, (size.E, size.D, size.F),
                                                 size.D**-0.5), sizes(key, size, rows)

    found = [
        Kernel(f"attention xla, {U} queries over {S} keys each", make,
               functools.partial(attention, visibility=seen, backend="xla"), 4.0 * U * size.N * size.H * S,
               4.0 * np.prod(shared))
    ]
    return found + [
        Kernel(f"grouped_matmul {backend}, {rows} rows "
               "of a decode step", make_product, _product(backend, False), 2.0 * rows * size.D * size.F,
               2.0 * per_expert, backend == "tokamax") for backend in ("padded", "tokamax")
    ]


def heads(size: Size) -> list[Kernel]:
    M = size.B * size.T
    D = size.D
    V = size.V

    def make(key):
        hidden, head, targets = keys(key, 3)
        return normal(hidden, (M, D)), normal(head, (D, V), D**-0.5), jax.random.randint(targets, (M,), 0, V)

    def back(hidden, head, targets):
        return jax.grad(lambda hidden: token_logprobs(hidden, head, targets)[0].sum())(hidden)

    product = 2.0 * M * D * V
    moved = 2.0 * (M * D + D * V)
    return [
        Kernel(f"token_logprobs, {M} tokens, forward", make, lambda *a: token_logprobs(*a)[0], product,
               moved),
        Kernel(f"token_logprobs, {M} tokens, frozen head, with the "
               "gradient by hidden states", make, back, 2 * product, moved)
    ]
