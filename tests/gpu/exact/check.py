"""What a numeric check is: a path of ours, run in some precision, beside the same in float64."""
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Precision(NamedTuple):
    """name; type of the inputs; precision of float32 products; the largest ||out - wanted|| / ||wanted|| that
    is let pass."""
    name: str
    dtype: Any
    products: str
    tolerance: float


FLOAT32 = Precision("float32", jnp.float32, "highest", 1e-5)
TF32 = Precision("float32 by tf32 products", jnp.float32, "default", 3e-3)
BFLOAT16 = Precision("bfloat16", jnp.bfloat16, "default", 2e-2)
ALL = (FLOAT32, TF32, BFLOAT16)


class Check(NamedTuple):
    """compute() -> (what, found, wanted) of each array; gpu_only: its library is no part of a machine without
    a GPU."""
    name: str
    precision: Precision
    compute: Callable[[], Iterable[tuple[str, Any, np.ndarray]]]
    gpu_only: bool = False

    def errors(self) -> dict[str, float]:
        """{what: relative error}. Raises whatever the path raises."""
        with jax.default_matmul_precision(self.precision.products):
            return {what: relative(found, wanted) for what, found, wanted in self.compute()}


def relative(found, wanted) -> float:
    """||found - wanted|| / ||wanted||; not finite where `found` is not."""
    found = np.asarray(found).astype(np.float64)
    if found.shape != wanted.shape:
        raise ValueError(f"the shape is {found.shape} and should be {wanted.shape}")
    size = np.linalg.norm(wanted)
    return float(np.linalg.norm(found - wanted) / (size if size else 1.0))


def normal(seed: int, shape, dtype, std: float = 1.0):
    """Random values as `dtype` holds them: (the array, the same numbers in float64)."""
    array = jnp.asarray(std * np.random.default_rng(seed).normal(size=shape), dtype)
    return array, np.asarray(array).astype(np.float64)
