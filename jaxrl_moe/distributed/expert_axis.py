"""How the expert axis lies on hosts, and which ways of dispatch and which transports that allows."""
import warnings

import numpy as np

from jaxrl_moe.distributed.collectives import AXES, Layout
from jaxrl_moe.distributed.expert_parallel import GATHER_DEVICES
from jaxrl_moe.distributed.ragged import MOST_DEVICES
from jaxrl_moe.distributed.sharding import MeshError


def neighbours(hosts: np.ndarray) -> int:
    """How many neighbours along the expert axis share a host, from the host of each of the mesh's devices.

    Raises:
      MeshError: the devices of the expert axis are spread unevenly over hosts.
    """
    lines = np.moveaxis(hosts, AXES.index("expert"), -1)
    lines = lines.reshape(-1, lines.shape[-1])
    inner = int(np.argmax(lines[0] != lines[0, 0])) or lines.shape[1]
    firsts = lines[:, ::inner]
    even = lines.shape[1] % inner == 0
    if not even or not (np.repeat(firsts, inner, axis=1) == lines).all() or any(
            len(set(line)) < len(line) for line in firsts):
        raise MeshError(f"The {lines.shape[1]} devices of the expert axis are spread unevenly over hosts "
                        f"(numbers of the hosts: {np.unique(lines, axis=0).tolist()}): choose sizes of the "
                        "axes expert, tensor and context whose product divides the devices of a host or is a "
                        "multiple of them.")
    return inner


def check_dispatch(dispatch: str, size: int, inner: int) -> None:
    """Whether an expert axis of this size, of which `inner` neighbours share a host, is what was asked
    for.

    Raises:
      MeshError: it is not.
    """
    if dispatch == "single" and size > 1:
        raise MeshError(f"mesh.dispatch = 'single' keeps tokens on their device, and mesh.expert = {size} "
                        "splits the experts: set mesh.expert=1, or mesh.dispatch=auto.")
    if dispatch in ("ipc", "hybrid") and size == 1:
        raise MeshError(f"mesh.dispatch = {dispatch!r} sends tokens over the expert axis, which has one "
                        "device: set mesh.expert above 1, or mesh.dispatch=auto.")
    if dispatch == "ipc" and inner < size:
        raise MeshError(f"mesh.dispatch = 'ipc' exchanges tokens inside one host, and the {size} devices of "
                        f"the expert axis lie on {size // inner} hosts: set mesh.dispatch=hybrid or auto, or "
                        f"mesh.expert={inner}.")
    if dispatch == "hybrid" and inner == size:
        raise MeshError("mesh.dispatch = 'hybrid' exchanges tokens inside hosts and then between them, and "
                        f"the {size} devices of the expert axis lie on one host: set mesh.dispatch=ipc or "
                        "auto, or say by mesh.host_devices what a host is.")


def check_transport(layout: Layout, platform: str, flags: str) -> None:
    """Refuses the ragged all-to-all where it does not run, or is known to go wrong.

    Args:
      platform: of the devices.
      flags: XLA's.

    Raises:
      MeshError: naming what stands in its way.
    """
    size = layout.size("expert")
    if layout.transport != "ragged" or size == 1:
        return
    problems = [
        (platform == "cpu", "XLA has no ragged all-to-all for CPUs"),
        (layout.in_host > 0, f"it goes in one stage, and a host holds {layout.in_host} of the expert axis's "
                             f"{size} devices"),
        (size > MOST_DEVICES, f"it has been seen to crash over more than {MOST_DEVICES} devices, and "
                              f"mesh.expert = {size}"),
        ("latency_hiding_scheduler=true" in flags, "it gives wrong gradients under the latency-hiding "
                                                   "scheduler in some builds of XLA, and XLA_FLAGS turns "
                                                   "that on")]
    for wrong, reason in problems:
        if wrong:
            raise MeshError(f"mesh.transport = 'ragged' cannot be used here: {reason}. Set "
                            "mesh.transport=gather, which drops nothing either, or capacity.")


def warn_of_gather(layout: Layout) -> None:
    """Says what `auto` costs on a wide expert axis: it never drops, so that it stays with gather."""
    size = layout.size("expert")
    if size > GATHER_DEVICES:
        warnings.warn("mesh.transport = 'auto' is gather, which drops nothing, and over mesh.expert = "
                      f"{size} devices each of them holds the tokens of all {size} in every MoE layer: an "
                      f"expert axis of at most {GATHER_DEVICES} and more data or fsdp are better; or set "
                      "mesh.transport=capacity, which may drop, or ragged, on GPUs of one "
                      "host.", stacklevel=2)
