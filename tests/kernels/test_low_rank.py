import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_moe.kernels.low_rank import low_rank
from tests.helpers.close import assert_close


@pytest.mark.parametrize("leading", [(5,), (2, 3)])
def test_a_low_rank_product_and_its_gradients_equal_the_plain_ones(leading):
    rng = np.random.default_rng(0)
    x, a, b = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((*leading, 7), (7, 2), (2, 6)))
    weight = jnp.asarray(rng.normal(size=(*leading, 6)), jnp.float32)

    def gradients(product):
        return jax.tree.leaves(
            jax.value_and_grad(lambda *m: jnp.sum(weight * product(*m)), (0, 1, 2))(x, a, b))

    for found, wanted in zip(gradients(low_rank), gradients(lambda x, a, b: x @ a @ b)):
        assert_close(found, wanted)
