"""A transport that moves the rows that are needed and no others: XLA's ragged all-to-all, which CPUs have
not.

A token goes once to each device that holds one of its experts, with its weights and expert numbers, and comes
back as that device's weighted sum. Letters: n devices of the expert axis, r copies that a device sends at
most, min(n, A) * M.
"""
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrl_moe.distributed import collectives

MOST_DEVICES = 32  # beyond, XLA's kernel has been seen to crash


class Route(NamedTuple):
    """Which rows a device sends to each of the n, and where they come to lie there; see
    lax.ragged_all_to_all."""
    input_offsets_n: Any
    send_sizes_n: Any
    output_offsets_n: Any
    recv_sizes_n: Any


class RowExchange(NamedTuple):
    """The way to the experts and the way back; which token each sent row copies (M: none), and where each
    token's copies stand."""
    there: Route
    back: Route
    token_r: Any
    slot_nM: Any


def plan(wanted_nM: jax.Array, rows: int) -> RowExchange:
    """Lays out what each device sends.

    Args:
      wanted_nM: whether a token goes to a device.
      rows: r, no fewer than are wanted.
    """
    devices, tokens = wanted_nM.shape
    counts = lax.all_gather(wanted_nM.sum(axis=1, dtype=jnp.int32), "expert")  # [sender, receiver]
    lies_at = jnp.cumsum(counts, axis=1) - counts   # where a sender's rows for a receiver begin
    comes_to = jnp.cumsum(counts, axis=0) - counts  # where they come to lie
    me = lax.axis_index("expert")
    there = Route(lies_at[me], counts[me], comes_to[me], counts[:, me])
    back = Route(comes_to[:, me], counts[:, me], lies_at[:, me], counts[me])
    slot_nM = jnp.where(wanted_nM, jnp.cumsum(wanted_nM.reshape(-1)).reshape(wanted_nM.shape) - 1, rows)
    token_nM = jnp.broadcast_to(jnp.arange(tokens), (devices, tokens))
    return RowExchange(there, back, jnp.full(rows, tokens).at[slot_nM].set(token_nM, mode="drop"), slot_nM)


def _send(x: jax.Array, route: Route, rows: int):
    return lax.ragged_all_to_all(x, jnp.zeros((rows, *x.shape[1:]), x.dtype), *route, axis_name="expert")


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def moved(rows: tuple[int, int], x: jax.Array, route: Route, back: Route):
    """x [rows[0], ...] sent along the route into [rows[1], ...], zeros where nothing comes; the gradient
    takes the way back."""
    return _send(x, route, rows[1])


moved.defvjp(lambda rows, x, route, back: (_send(x, route, rows[1]), back),
              lambda rows, back, gradient: (_send(gradient, back, rows[0]), None, None))


def _copy(x_M: jax.Array, token_r: Any, slot_nM: jax.Array):
    return x_M.at[token_r].get(mode="fill", fill_value=0)


def _sum(x_r: Any, token_r: Any, slot_nM: jax.Array):
    return x_r.at[slot_nM].get(mode="fill", fill_value=0).sum(axis=0)


def _linear(function: Any, transposed: Any):
    """function(x, token, slot) with its gradient by x spelled out, so that no scattered add is left to
    XLA."""
    mapped = jax.custom_vjp(function)
    mapped.defvjp(lambda x, *where: (function(x, *where), where), lambda where, gradient:
                  (transposed(gradient, *where), None, None))
    return mapped


_copies = _linear(_copy, _sum)
_sums = _linear(_sum, _copy)


def ragged(x_MD: jax.Array, weights_MA: jax.Array, ids_MA: jax.Array, num_experts: int, compute: Any):
    """See expert_parallel.TRANSPORTS. Dropless: the buffers hold every token of the expert axis.

    Moves a token as often as its experts lie on different devices, at most what `gather` moves; compute
    follows the true load of a device's experts. Memory is that of `gather`.
    """
    tokens, active = ids_MA.shape
    devices = collectives.size("expert")
    wanted_nM = (ids_MA // (num_experts // devices) == jnp.arange(devices)[:, None, None]).any(axis=-1)
    sent = tokens * min(devices, active)
    received = tokens * devices
    there, back, *where = plan(wanted_nM, sent)
    x, weights = (moved((sent, received), _copies(m, *where), there, back) for m in (x_MD, weights_MA))
    ids = _send(_copy(ids_MA + 1, *where), there, received) - 1  # -1, no expert, where nothing came
    return _sums(moved((received, sent), compute(x, weights, ids), back, there), *where)
