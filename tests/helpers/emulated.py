"""lax.ragged_all_to_all by all_gather and a masked selection, as its documentation defines it: XLA has none
for CPUs."""
import jax.numpy as jnp
from jax import lax


def ragged_all_to_all(operand, output, input_offsets, send_sizes, output_offsets, recv_sizes, *, axis_name):
    """Sizes on which sender and receiver disagree, and slices that leave an array, give NaN (or -1)."""
    me = lax.axis_index(axis_name)
    rows = jnp.arange(output.shape[0])
    operands, begins, sizes, targets = (lax.all_gather(x, axis_name)
                                        for x in (operand, input_offsets, send_sizes, output_offsets))
    sound = (jnp.all(recv_sizes == sizes[:, me]) & jnp.all(begins + sizes <= operand.shape[0])
             & jnp.all((targets + sizes)[:, me] <= output.shape[0]))
    for sender in range(operands.shape[0]):
        index = rows - targets[sender, me]
        here = ((index >= 0) & (index < sizes[sender, me])).reshape(-1, *[1] * (output.ndim - 1))
        output = jnp.where(here, operands[sender].at[begins[sender, me] + index].get(mode="clip"), output)
    return jnp.where(sound, output, jnp.nan if jnp.issubdtype(output.dtype, jnp.floating) else -1)
