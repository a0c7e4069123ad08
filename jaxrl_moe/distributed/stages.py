"""Exchanges over the expert axis: in one stage, or in two where the axis spans hosts, so that what is slow
carries least.

Device h * k + j of the axis is the j-th of the k that stand in host h (Layout.in_host = k). A stage runs in
groups: `inside` a host, or `between` hosts, among the devices of the same j. Letters: n devices of the axis,
H hosts.
"""
from typing import Any

from jax import lax

from jaxrl_moe.distributed import collectives


def gathered(x: Any):
    """The parts of all devices, one after the other along the first axis, in an order that `scattered`
    undoes.

    Between hosts first: a device fetches the parts of its own j alone, so that each part enters a host once;
    the devices of a host then hand each other what they fetched.
    """
    for groups in reversed(_stages()):
        x = lax.all_gather(x, "expert", axis=0, tiled=True, axis_index_groups=groups)
    return x


def scattered(x: Any):
    """The sum over all devices, of which each keeps the part that it gave to `gathered`: a host adds up
    before anything leaves it."""
    for groups in _stages():
        x = lax.psum_scatter(x, "expert", scatter_dimension=0, tiled=True, axis_index_groups=groups)
    return x


def exchanged(x: Any):
    """Part i of the first axis goes to device i; what comes back stands in the order of its senders.

    Inside the host first, to the device whose j is that of the receiver: between hosts a device then sends
    one message to each other host instead of one to each device there, of k times the size.
    """
    size = collectives.size("expert")
    inner = collectives.layout().in_host
    if not inner:
        return lax.all_to_all(x.reshape(size, -1, *x.shape[1:]), "expert", 0, 0).reshape(x.shape)
    inside, between = _stages()
    parts = x.reshape(size // inner, inner, -1, *x.shape[1:])
    parts = lax.all_to_all(parts, "expert", 1, 1, axis_index_groups=inside)
    return lax.all_to_all(parts, "expert", 0, 0, axis_index_groups=between).reshape(x.shape)


def _stages() -> list[list[list[int]] | None]:
    """The groups of the stages inside a host and between hosts; None is all devices in one."""
    size = collectives.size("expert")
    inner = collectives.layout().in_host
    if not inner:
        return [None]
    inside = [list(range(first, first + inner)) for first in range(0, size, inner)]
    return [inside, [list(group) for group in zip(*inside)]]
