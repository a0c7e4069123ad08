"""What stands around tokamax's kernels: they are asked for by name, replaced with a warning where they
refuse, and cut to the groups. Their own numbers are compared where there is a GPU (scripts/gpu_check.sh);
here XLA's ragged product stands in for them."""
import sys
import types

import jax
import jax.numpy as jnp
import pytest

from jaxrl_moe.kernels import grouped_matmul as grouped
from jaxrl_moe.kernels.grouped_matmul import grouped_matmul
from tests.helpers.close import assert_close

SIZES = jnp.array([5, 0, 16, 3])


def normal(seed, *shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


@pytest.fixture
def asked(monkeypatch):
    """Which implementations are asked for, of a tokamax that leaves rows past the last group as they happen
    to be."""
    found = []

    def ragged_dot(x, w, *, group_sizes, implementation):
        found.append(implementation)
        inside = jnp.arange(x.shape[0]) < group_sizes.sum()
        return jnp.where(inside[:, None], jax.lax.ragged_dot(x, w, group_sizes), jnp.nan)

    monkeypatch.setitem(sys.modules, "tokamax", types.SimpleNamespace(ragged_dot=ragged_dot))
    return found


def both(backend, x, w, target):
    def run(x, w):
        return grouped_matmul(x, w, SIZES, backend)
    return run(x, w), jax.grad(lambda x, w: jnp.sum(run(x, w) * target), (0, 1))(x, w)


def test_products_and_gradients_are_those_of_the_other_backends(asked, monkeypatch):
    monkeypatch.setattr(grouped, "_refused_by_tokamax", lambda x, w: "")
    x = normal(0, 32, 16)
    w = normal(1, 4, 16, 8)
    target = normal(2, 32, 8)
    assert_close(both("tokamax", x, w, target), both("ragged", x, w, target))
    assert set(asked) == {"mosaic_gpu"} and len(asked) >= 3  # forward alone, forward again, and back by x


def test_what_its_kernels_refuse_goes_another_way_and_says_so(asked):
    x = normal(0, 32, 16)
    w = normal(1, 4, 16, 8)
    target = normal(2, 32, 8)
    with pytest.warns(UserWarning, match="do not take compute capability none .* goes through the backend "
                                         "padded"):
        got = both("tokamax", x, w, target)
    assert_close(got, both("padded", x, w, target), 0)
    assert not asked


@pytest.mark.parametrize("rows, sides, dtype, reason",
                         [(32, (64, 128), jnp.float32, "float32 rows"),
                          (33, (64, 128), jnp.bfloat16, "33 rows"),
                          (32, (64, 96), jnp.bfloat16, "64 x 96"),
                          (32, (12, 64), jnp.bfloat16, "12 x 64"),
                          (32, (64, 16), jnp.bfloat16, ""),
                          (8, (2048, 768), jnp.bfloat16, "")])
def test_reasons_name_what_does_not_fit(rows, sides, dtype, reason, monkeypatch):
    monkeypatch.setattr(grouped, "get_default_device",
                        lambda: types.SimpleNamespace(compute_capability="9.0"))
    refused = grouped._refused_by_tokamax(jnp.zeros((rows, sides[0]), dtype), jnp.zeros((2, *sides), dtype))
    assert reason in refused and bool(refused) == bool(reason)


def test_it_is_told_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokamax", None)
    with pytest.raises(ImportError, match="jaxrl-moe\\[cuda\\]"):
        grouped_matmul(normal(0, 8, 8), normal(1, 4, 8, 8), SIZES, "tokamax")
