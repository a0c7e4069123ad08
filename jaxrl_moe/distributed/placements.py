"""The meshes that a configuration asks for: of training, and of the rollout."""
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax

from jaxrl_moe.config import Config, MeshSection, RolloutMeshSection
from jaxrl_moe.distributed.collectives import AXES
from jaxrl_moe.distributed.expert_axis import check_transport, warn_of_gather
from jaxrl_moe.distributed.mesh import check_model, divided, make_placement
from jaxrl_moe.distributed.sharding import MeshError, Placement
from jaxrl_moe.hosts import hosts


def placement(config: Config, model: Any | None) -> Placement | None:
    """The mesh of the mesh section, checked against a model unless that is None; None for a single device.

    Raises:
      MeshError: it does not fit the devices or the model.
    """
    if all(getattr(config.mesh, axis) == 1 for axis in AXES):
        if hosts.several():
            raise MeshError("The job has several processes, and the mesh section one device: set "
                            "mesh.data=-1, or other axes, to use the devices of all.")
        return None
    return mesh_of(config, model)


def mesh_of(config: Config, model: Any | None, planned: Sequence[jax.Device] | None = None) -> Placement:
    """As placement, but a mesh of one where there is a single device. planned: devices that stand for those
    of the run; where they are CPUs, gather, which drops nothing either, takes the place of the ragged
    all-to-all, which XLA has for GPUs only."""
    sizes = _sizes(config.mesh)
    devices = planned
    if config.rollout_mesh.apart:
        devices, _ = divided(sizes, _rollout_sizes(config), planned)
    trained_at = make_placement(
        sizes, devices, dispatch=config.mesh.dispatch, host_devices=config.mesh.host_devices,
        transport="gather" if config.mesh.transport == "auto" else config.mesh.transport,
        capacity_factor=config.mesh.capacity_factor)
    check_transport(trained_at.layout, trained_at.platform if planned is None else "gpu",
                    os.environ.get("XLA_FLAGS", ""))
    if planned is not None and trained_at.platform == "cpu" and config.mesh.transport == "ragged":
        gathering = dataclasses.replace(trained_at.layout, transport="gather")
        trained_at = dataclasses.replace(trained_at, layout=gathering)
    if config.mesh.transport == "auto":
        warn_of_gather(trained_at.layout)
    if model is not None:
        check_model(trained_at.layout, model)
    return trained_at


def rollout_placement(config: Config, model: Any | None,
                      planned: Sequence[jax.Device] | None = None) -> Placement | None:
    """As placement, of the rollout: that of training, or that of the rollout_mesh section on the devices
    after training's.

    Args:
      planned: see mesh_of.

    Raises:
      MeshError: it does not fit the devices or the model, or the job has several processes, which can only
        share.
    """
    if not config.rollout_mesh.apart:
        return placement(config, model)
    if hosts.several():
        raise MeshError("rollout_mesh needs a job of one process, and this one has several: leave "
                        "rollout_mesh out, so that rollout shares the mesh of training.")
    sizes = _rollout_sizes(config)
    drawn_at = make_placement(sizes, divided(_sizes(config.mesh), sizes, planned)[1])
    if model is not None:
        check_model(drawn_at.layout, model, "rollout_mesh")
    return drawn_at


def _sizes(section: MeshSection) -> dict[str, int]:
    return {axis: getattr(section, axis) for axis in AXES}


def _rollout_sizes(config: Config) -> dict[str, int]:
    return {axis: size or 1 for axis, size in dataclasses.asdict(config.rollout_mesh).items()}


def drawing_alone(config: Config) -> Config:
    """The configuration where nothing is trained: the rollout's mesh, if it has its own, takes the first
    devices."""
    if not config.rollout_mesh.apart:
        return config
    return dataclasses.replace(config, mesh=MeshSection(**_rollout_sizes(config)),
                               rollout_mesh=RolloutMeshSection())
