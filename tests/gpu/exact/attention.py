"""Attention's backends: odd lengths, shared key heads, packed segments with padding, windows, a query over a
cache."""
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_moe.kernels.attention import Visibility, attention
from tests.gpu.exact import oracle
from tests.gpu.exact.check import ALL, BFLOAT16, FLOAT32, Check, Precision, normal

WIDTH = 64
BATCH = 2


class Case(NamedTuple):
    """segments: lengths of the first row's segments, what is left of it being padding; the second row is one
    segment."""
    length: int
    heads: int
    kv_heads: int
    segments: tuple[int, ...]
    window: int = 0


CASES = {
    "odd T, 4 query heads of a key head": Case(77, 8, 2, (77,)),
    "packed segments and padding": Case(128, 4, 2, (40, 1, 66)),
    "odd T, packed, window of 9": Case(77, 4, 4, (30, 41), 9),
    "longer than a chunk": Case(613, 2, 1, (300, 250)),
}
# cuDNN takes no float32
BACKENDS = {"xla": ALL, "causal": ALL, "chunked": (FLOAT32, BFLOAT16), "cudnn": (BFLOAT16,)}


def checks() -> list[Check]:
    found = [
        Check(f"attention {backend}, {name}, {precision.name}", precision,
              lambda case=case, backend=backend, precision=precision: whole_rows(case, backend, precision),
              backend == "cudnn") for backend, precisions in BACKENDS.items() for name, case in CASES.items()
        for precision in precisions if not (precision.name.startswith("float32 by") and case.window)
    ]
    return found + [Check(f"attention xla, one query over a cache, {precision.name}", precision,
                          lambda precision=precision: over_cache(precision)) for precision in ALL]


def rows(case: Case):
    """(positions, segments), both [B, T]."""
    positions = np.tile(np.arange(case.length), (BATCH, 1))
    segments = np.ones((BATCH, case.length), int)
    segments[0], start = 0, 0
    for number, size in enumerate(case.segments, 1):
        positions[0, start:start + size], segments[0, start:start + size] = np.arange(size), number
        start += size
    return positions, segments


def seen(positions, segments, window):
    """[B, T, T] by the words of the rule, not by the code of Visibility."""
    distance = positions[:, :, None] - positions[:, None]
    same = (segments[:, :, None] == segments[:, None]) & (segments[:, None] > 0)
    return same & (distance >= 0) & ((distance < window) if window else True)


def whole_rows(case: Case, backend: str, precision: Precision):
    positions, segments = rows(case)
    shapes = [(BATCH, case.length, heads, WIDTH)
              for heads in (case.heads, case.kv_heads, case.kv_heads, case.heads)]
    pairs = [normal(seed, shape, precision.dtype) for seed, shape in enumerate(shapes)]
    real = (segments > 0)[..., None, None]
    visibility = Visibility(positions, positions, segments, segments, jnp.int32(case.window))

    @jax.jit
    def ours(q, k, v, gradient):
        out, back = jax.vjp(
            lambda *a: jnp.where(real, attention(*a, visibility, backend, whole_rows=True), 0), q, k, v)
        return out, *back(jnp.where(real, gradient, 0))

    q, k, v, gradient = (exact for _, exact in pairs)
    wanted = oracle.attention(q, k, v, seen(positions, segments, case.window), np.where(real, gradient, 0))
    return zip(("out", "dq", "dk", "dv"), ours(*(array for array, _ in pairs)), wanted)


def over_cache(precision: Precision):
    """Rows of three lengths, each query at its row's last token, keys beyond it unseen."""
    keys = 96
    lengths = np.array([96, 1, 50])
    shapes = [(3, 1, 8, WIDTH), (3, keys, 2, WIDTH), (3, keys, 2, WIDTH)]
    pairs = [normal(seed, shape, precision.dtype) for seed, shape in enumerate(shapes)]
    ones = np.ones((3, keys), int)
    visibility = Visibility(lengths[:, None] - 1, np.tile(np.arange(keys), (3, 1)), ones[:, :1], ones)
    got = jax.jit(lambda *a: attention(*a, visibility))(*(array for array, _ in pairs))
    visible = np.arange(keys)[None, None] < lengths[:, None, None]
    wanted = oracle.attention(*(exact for _, exact in pairs), visible, np.zeros(shapes[0]))[0]
    return [("out", got, wanted)]
