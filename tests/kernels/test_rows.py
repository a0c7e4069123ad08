import jax
import numpy as np
import pytest

from jaxrl_moe.kernels import rows
from jaxrl_moe.kernels.rows import order_by


@pytest.mark.parametrize("largest_key", [rows.LARGEST_KEY, 10], ids=["one number", "pairs"])
def test_rows_are_ordered_by_group_and_the_inverse_says_where_each_went(monkeypatch, largest_key):
    monkeypatch.setattr(rows, "LARGEST_KEY", largest_key)
    groups = np.array([3, 0, 2, 4, 0, 2, 3, 0], np.int32)
    order, inverse = jax.jit(order_by, static_argnums=1)(groups, 4)
    np.testing.assert_array_equal(order, [1, 4, 7, 2, 5, 0, 6, 3])
    np.testing.assert_array_equal(np.asarray(order)[np.asarray(inverse)], np.arange(8))
