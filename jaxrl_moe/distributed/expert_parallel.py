"""How tokens reach the devices that hold their experts, and how results come back: the transports of expert parallelism.

Experts are split over the mesh axis `expert`, which splits the rows of a batch too. A transport takes the device's own
tokens, has `compute` run on those that are sent to its own experts, and returns the sums for its own tokens.
Letters: M tokens of one device, A active experts per token, D model width, E experts of all devices.
"""
from collections.abc import Callable

import jax.numpy as jnp

from jaxrl_moe.distributed import collectives

Compute = Callable  # (x_MD, weights_MA, local expert ids_MA) -> y_MD; an id past the last local expert goes nowhere


def dispatch(x_MD, weights_MA, ids_MA, num_experts: int, compute: Compute):
    """sum over a token's experts of weight * expert(x), [M, D]; on a tensor axis a partial sum.

    Args:
      x_MD: this device's tokens.
      weights_MA, ids_MA: their experts' weights and numbers; an id of num_experts goes nowhere.
      num_experts: of all devices; a multiple of the expert axis.
      compute: runs this device's experts.
    """
    if collectives.size("expert") == 1:
        return compute(x_MD, weights_MA, ids_MA)
    return TRANSPORTS[collectives.layout().transport](x_MD, weights_MA, ids_MA, num_experts, compute)


def gather(x_MD, weights_MA, ids_MA, num_experts, compute):
    """Every device sees all tokens of the expert axis and computes those of its experts; sums are scattered back.

    Dropless whatever the routing. Moves (n - 1) / n of all tokens twice; compute follows the true load of a device's experts.
    """
    everything = (collectives.gather(x, "expert", 0) for x in (x_MD, weights_MA, ids_MA))
    return collectives.total_scattered(_own(*everything, num_experts, compute), "expert", 0)


def replicated(x_MD, weights_MA, ids_MA, num_experts, compute):
    """For tokens that all devices of the expert axis hold alike, as when decoding: each adds what its experts give."""
    return collectives.total(_own(x_MD, weights_MA, ids_MA, num_experts, compute), "expert")


def _own(x_MD, weights_MA, ids_MA, num_experts, compute):
    """This device's experts on the given tokens; the others' share is left out."""
    local = num_experts // collectives.size("expert")
    ids_MA = ids_MA - collectives.index("expert") * local
    own_MA = (ids_MA >= 0) & (ids_MA < local)
    return compute(x_MD, jnp.where(own_MA, weights_MA, 0), jnp.where(own_MA, ids_MA, local))


TRANSPORTS = {"gather": gather, "replicated": replicated}
