"""The mesh of a role (training or rollout), from the sizes of its axes, and which devices each role has."""
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType

from jaxrl_moe.distributed.collectives import AXES, Layout
from jaxrl_moe.distributed.expert_axis import check_dispatch, neighbours
from jaxrl_moe.distributed.sharding import MeshError, Placement


def make_placement(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None, *,
                   dispatch: str = "auto", host_devices: int = 0, **options: Any) -> Placement:
    """Lays a mesh over the devices.

    Args:
      sizes: of the axes; those not named are 1, and one may be -1 to take what devices are left.
      devices: all by default; if no axis is -1, the first so many.
      dispatch: how the expert axis must lie: single (it has one device), ipc (inside one host), hybrid (over
        several hosts), or auto.
      host_devices: so many devices in their order are a host; 0: those of a process.
      options: of Layout.

    Raises:
      MeshError: unknown axes, sizes that the number of devices does not allow, or a dispatch that does not
        fit them.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = inferred(sizes, len(devices))
    layout = Layout.of(sizes, **options)
    count = math.prod(layout.sizes)
    _check_processes(devices[:count])
    mesh = jax.make_mesh(layout.sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices[:count])
    hosts = {
        device: number // host_devices if host_devices else device.process_index
        for number, device in enumerate(devices)
    }
    inner = neighbours(np.vectorize(hosts.get, otypes=[int])(mesh.devices))
    check_dispatch(dispatch, layout.size("expert"), inner)
    return Placement(mesh,
                     dataclasses.replace(layout, in_host=0 if inner in (1, layout.size("expert")) else inner))


def _check_processes(devices: Sequence[jax.Device]) -> None:
    """Refuses a mesh that leaves out a process of the job: it would have nothing to do."""
    used = len({device.process_index for device in devices})
    there = jax.process_count()
    if used < there:
        raise MeshError(f"The mesh's {len(devices)} devices belong to {used} of the job's {there} processes: "
                        f"raise an axis of the mesh, or set one to -1, to use all {jax.device_count()} "
                        "devices, or start fewer processes.")


def divided(training: Mapping[str, int], rollout: Mapping[str, int],
            devices: Sequence[jax.Device] | None = None) -> tuple[list[jax.Device], list[jax.Device]]:
    """Devices for training, the first, and for rollout, those after them.

    Args:
      training, rollout: sizes of the axes; one of all may be -1 to take what devices are left.
      devices: all by default.

    Raises:
      MeshError: there are too few.
    """
    devices = list(jax.devices() if devices is None else devices)
    open_ended = [-1 in sizes.values() for sizes in (training, rollout)]
    if all(open_ended):
        raise MeshError("The sections mesh and rollout_mesh both have an axis of size -1, and only one of "
                        "them can take what devices are left: give the other's sizes.")
    first, second = (abs(math.prod(sizes.values())) for sizes in (training, rollout))
    if first + second > len(devices):
        raise MeshError(f"Training on a mesh of {'at least ' * open_ended[0]}{first} devices beside rollout "
                        f"on one of {'at least ' * open_ended[1]}{second} needs {first + second}, and there "
                        f"are {len(devices)}: lower an axis of mesh or rollout_mesh, or leave rollout_mesh "
                        "out, so that both share the devices.")
    if open_ended[0]:
        first = len(devices) - second
    return devices[:first], devices[first:]


def inferred(sizes: Mapping[str, int], devices: int) -> dict[str, int]:
    """The sizes with -1 replaced by what is left of the devices.

    Raises:
      MeshError: an axis is unknown, a size cannot be, or the devices do not make such a mesh.
    """
    unknown = sorted(set(sizes) - set(AXES))
    if unknown:
        raise MeshError(f"The mesh has no axis {unknown[0]!r}: its axes are {', '.join(AXES)}.")
    free = [axis for axis, size in sizes.items() if size == -1]
    bad = [f"{axis} = {size}" for axis, size in sizes.items() if size < 1 and size != -1]
    if bad or len(free) > 1:
        raise MeshError("The mesh's sizes must be positive, and at most one -1 (what is left); got "
                        f"{bad or free}.")
    known = math.prod(map(abs, sizes.values()))
    if devices % known if free else known > devices:
        raise MeshError(f"The mesh needs {'a multiple of ' if free else ''}{known} devices, and there are "
                        f"{devices}: lower an axis{' to a divisor' if free else ''}, or start with more "
                        "devices.")
    return {axis: devices // known if size == -1 else size for axis, size in sizes.items()}


def parse(text: str) -> dict[str, int]:
    """The sizes in "fsdp=4,expert=2".

    Raises:
      MeshError: it is no list of axes with sizes, or names one twice.
    """
    pairs = [entry.partition("=") for entry in text.split(",") if entry.strip()]
    sizes = {axis.strip(): size.strip() for axis, _, size in pairs}
    wrong = [size for size in sizes.values() if not re.fullmatch(r"-?\d+", size)]
    if not pairs or wrong or len(sizes) < len(pairs) or not set(sizes) <= set(AXES):
        raise MeshError(f"The mesh {text!r} cannot be read: name each axis once with its size, such as "
                        f"fsdp=4,expert=2; the axes are {', '.join(AXES)}.")
    return {axis: int(size) for axis, size in sizes.items()}


def check_model(layout: Layout, model: Any, section: str = "mesh") -> None:
    """Refuses a mesh that a model cannot be split over.

    Args:
      layout: sizes of the axes.
      model: its ModelConfig.
      section: of the configuration, that messages name.

    Raises:
      MeshError: with the numbers, and the sizes that would fit.
    """
    must_divide = model.splits()
    if layout.size("expert") > 1 and not must_divide["expert"]:
        raise MeshError(f"{section}.expert = {layout.size('expert')} splits experts, and a dense model has "
                        f"none: set {section}.expert=1.")
    for axis, numbers in must_divide.items():
        size = layout.size(axis)
        odd = {name: number for name, number in numbers.items() if number % size}
        if odd:
            fits = max(n for n in range(1, size + 1) if not any(number % n for number in numbers.values()))
            raise MeshError(f"{section}.{axis} = {size} does not divide the model's "
                            f"{' and '.join(f'{k} = {v}' for k, v in odd.items())}: the nearest size below "
                            f"that does is {fits}.")
