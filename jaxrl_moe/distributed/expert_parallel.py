"""How tokens reach the devices that hold their experts, and how results come back: the transports of expert
parallelism.

Experts are split over the mesh axis `expert`, which splits the rows of a batch too. A transport takes the
device's own tokens, has `compute` run on those that are sent to its own experts, and returns the sums for its
own tokens. Where the axis spans hosts, gather and capacity go in two stages (distributed/stages.py).

    gather      all-gather and reduce-scatter; drops nothing, runs everywhere; what "auto" means
    capacity    all-to-all of a fixed number of places; drops what does not fit, and counts it
    ragged      all-to-all of the rows that are needed; drops nothing; not on CPU
    replicated  for tokens that all devices hold alike, as in decoding; not a setting

Letters: M tokens of one device, A active experts per token, D model width, E experts of all devices, n
devices of the axis.
"""
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_moe.distributed import collectives, stages
from jaxrl_moe.distributed.ragged import ragged as ragged_exchange

# (x_MD, weights_MA, local expert ids_MA, share) -> y_MD. An id past the last local expert goes nowhere;
# evenly spread, one in `share` of the slots goes somewhere.
Compute = Callable

GATHER_DEVICES = 8  # devices up to which gathering is the better choice: each holds the tokens of all


def dispatch(x_MD: jax.Array, weights_MA: jax.Array, ids_MA: jax.Array, num_experts: int, compute: Compute):
    """sum over a token's experts of weight * expert(x), [M, D] (on a tensor axis a partial sum), and how many
    slots were dropped.

    Args:
      x_MD: this device's tokens.
      weights_MA, ids_MA: their experts' weights and numbers; an id of num_experts goes nowhere.
      num_experts: of all devices; a multiple of the expert axis.
      compute: runs this device's experts.
    """
    if collectives.size("expert") == 1:
        return compute(x_MD, weights_MA, ids_MA, 1), jnp.zeros((), jnp.int32)
    return TRANSPORTS[collectives.layout().transport](x_MD, weights_MA, ids_MA, num_experts, compute)


def gather(x_MD: jax.Array, weights_MA: jax.Array, ids_MA: jax.Array, num_experts: int, compute: Compute):
    """Every device sees all tokens of the expert axis and computes those of its experts; sums are scattered
    back.

    Dropless whatever the routing. A device receives the n - 1 others' tokens, and as much of sums; it holds n
    * M * A rows, of which it computes those of its experts: 1 / n of them under balanced routing.
    """
    everything = (stages.gathered(x) for x in (x_MD, weights_MA, ids_MA))
    return stages.scattered(_own(*everything, num_experts, compute)), jnp.zeros((), jnp.int32)


def replicated(x_MD: jax.Array, weights_MA: jax.Array, ids_MA: jax.Array, num_experts: int, compute: Compute):
    """For tokens that all devices of the expert axis hold alike, as when decoding: each adds what its experts
    give."""
    return collectives.total(_own(x_MD, weights_MA, ids_MA, num_experts, compute), "expert"), jnp.zeros(
        (), jnp.int32)


def ragged(x_MD: jax.Array, weights_MA: jax.Array, ids_MA: jax.Array, num_experts: int, compute: Compute):
    """A token goes to the devices that hold its experts, and to no other: see distributed/ragged.py."""
    def own(x: jax.Array, weights: Any, ids: Any):
        return _own(x, weights, ids, num_experts, compute)

    return ragged_exchange(x_MD, weights_MA, ids_MA, num_experts, own), jnp.zeros((), jnp.int32)


def _own(x_MD: jax.Array, weights_MA: jax.Array, ids_MA: jax.Array, num_experts: int, compute: Compute):
    """This device's experts on the given tokens; the others' share is left out."""
    devices = collectives.size("expert")
    local = num_experts // devices
    ids_MA = ids_MA - collectives.index("expert") * local
    own_MA = (ids_MA >= 0) & (ids_MA < local)
    return compute(x_MD, jnp.where(own_MA, weights_MA, 0), jnp.where(own_MA, ids_MA, local), devices)


def capacity(x_MD: jax.Array, weights_MA: jax.Array, ids_MA: jax.Array, num_experts: int, compute: Compute):
    """Each device sends an expert at most so many of its tokens, in one all-to-all; what does not fit is
    dropped and counted.

    The places are layout().capacity_factor times an even share, rounded up. A token's first choices are not
    preferred: places are given in the order of tokens. Both traffic and compute are fixed: at a factor of 1 a
    device receives (n - 1) / n of M * A rows, sends as many sums back, and computes M * A rows, 1 / n of all,
    whatever the routing.
    """
    tokens, active = ids_MA.shape
    places = max(1, math.ceil(collectives.layout().capacity_factor * tokens * active / num_experts))
    ids_R = ids_MA.reshape(-1)
    rank_R = _rank(ids_R, num_experts)
    kept_R = (rank_R < places) & (ids_R < num_experts)
    slot_R = jnp.where(kept_R, ids_R * places + rank_R, num_experts * places)  # past the end: nowhere
    sent = jnp.zeros((num_experts * places, x_MD.shape[1]),
                     x_MD.dtype).at[slot_R].set(jnp.repeat(x_MD, active, axis=0), mode="drop")
    full = jnp.zeros(num_experts * places, bool).at[slot_R].set(True, mode="drop")
    # from here on [n, local experts * places]: what each device sent to this one's experts
    here, full = (stages.exchanged(x) for x in (sent, full))
    local = num_experts // collectives.size("expert")
    ids = jnp.where(full, jnp.tile(jnp.repeat(jnp.arange(local), places), collectives.size("expert")), local)
    out = stages.exchanged(compute(here, jnp.ones((len(ids), 1), weights_MA.dtype), ids[:, None], 1))
    back_RD = out.at[slot_R].get(mode="fill", fill_value=0)
    y_MD = jnp.einsum("mad,ma->md", back_RD.reshape(tokens, active, -1), weights_MA.astype(x_MD.dtype))
    return y_MD, jnp.sum((ids_R < num_experts) & ~kept_R, dtype=jnp.int32)


def _rank(ids_R: jax.Array, num_experts: int):
    """How many earlier rows go to the same expert."""
    order_R = jnp.argsort(ids_R, stable=True)
    first_E = jnp.searchsorted(ids_R[order_R], jnp.arange(num_experts + 1))
    return jnp.zeros_like(ids_R).at[order_R].set(jnp.arange(len(ids_R)) - first_E[ids_R[order_R]])


TRANSPORTS = {"gather": gather, "capacity": capacity, "ragged": ragged, "replicated": replicated}
