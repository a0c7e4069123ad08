"""Settings of the mesh: what contradicts itself, and what does not fit the devices or the model."""
import functools
from collections.abc import Iterator

from jaxrl_moe.checks.problems import idle, told
from jaxrl_moe.config import Config, MeshSection
from jaxrl_moe.data.packing import whole_batch
from jaxrl_moe.distributed.placements import placement, rollout_placement
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.types import Problem


def contradictions(config: Config) -> Iterator[Problem]:
    """Yields settings that cannot work together, in whatever phase."""
    mesh = config.mesh
    if mesh.expert == 1:
        yield from idle_exchange(mesh, 1)
    if mesh.expert == 1 and mesh.dispatch in ("ipc", "hybrid"):
        yield Problem("mesh.dispatch", mesh.dispatch,
                      "sends tokens over the expert axis, and mesh.expert = 1",
                      "set mesh.expert above 1, or mesh.dispatch=auto")
    if mesh.transport == "ragged" and mesh.dispatch == "hybrid":
        yield Problem("mesh.transport", "ragged",
                      "goes in one stage, and mesh.dispatch = 'hybrid' asks for two",
                      "use gather or capacity, or ipc")
    if (mesh.transport == "capacity") != (mesh.capacity_factor > 0):
        yield Problem("mesh.transport", mesh.transport,
                      f"with mesh.capacity_factor = {mesh.capacity_factor}: a capacity needs both, and the "
                      "others need neither",
                      "set both, such as transport capacity and a factor of 1.25, or neither")
    if mesh.pipeline != 1:
        yield Problem("mesh.pipeline", mesh.pipeline,
                      "would split layers into the stages of a pipeline, which cannot be done",
                      "set mesh.pipeline=1, and split the weights by mesh.fsdp (layer by layer, the nearest "
                      "to it), mesh.expert or mesh.tensor, with train.remat=full for activations; "
                      "mesh.data=-1 or mesh.fsdp=-1 takes the devices that are left")


def idle_exchange(mesh: MeshSection, size: int) -> Iterator[Problem]:
    """Yields settings of how tokens travel to their experts that have no effect where the expert axis has one
    device.

    Args:
      mesh: the section.
      size: devices of the axis, which only the devices tell where mesh.expert is -1.
    """
    if size == 1:
        has = "mesh.expert = 1" if mesh.expert == 1 else f"mesh.expert = {mesh.expert}, here 1,"
        yield from idle("mesh", mesh, ("transport", "capacity_factor", "host_devices"),
                        f", as {has} keeps all experts on each device", "set mesh.expert above 1")


def problems(config: Config, model: ModelConfig | None, lengths: tuple[int, ...]) -> Iterator[Problem]:
    """Yields what does not fit the devices, the model, or the batches.

    Args:
      config: resolved.
      model: None leaves it unchecked.
      lengths: tokens of the longest sequences that a row must hold, see phases.
    """
    trained: list[Placement | None] = []
    yield from told("mesh", None, lambda: trained.append(placement(config, model)))
    for placed in trained:
        yield from _of_devices(config, placed, lengths)
    if trained and config.rollout_mesh.apart:
        yield from told("rollout_mesh", None, lambda: rollout_placement(config, model))


def _of_devices(config: Config, placed: Placement | None, lengths: tuple[int, ...]) -> Iterator[Problem]:
    """Yields what only the devices tell: an axis of -1 that is 1, and rows that a micro-batch cannot hold."""
    if config.mesh.expert != 1 and placed is not None:
        yield from idle_exchange(config.mesh, placed.layout.size("expert"))
    tokens = config.train.tokens_per_micro_batch
    shards = (1, 1) if placed is None else placed.shards
    for longest in lengths:
        fits = functools.partial(whole_batch, longest, tokens, shards)
        yield from told("train.tokens_per_micro_batch", tokens, fits)
