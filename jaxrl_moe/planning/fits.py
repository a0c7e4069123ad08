"""Which checkpoints a mesh can train, before anything is compiled: what must lie on each device at least."""
import dataclasses
import math
from collections.abc import Sequence

import jax

from jaxrl_moe.config import Config, base, resolve
from jaxrl_moe.data.packing import whole_batch
from jaxrl_moe.distributed.collectives import ROWS
from jaxrl_moe.distributed.mesh import MeshError, inferred, parse
from jaxrl_moe.outside import MOST_INT
from jaxrl_moe.planning.catalogue import KnownCheckpoint
from jaxrl_moe.planning.plan import Plan, counted_plan

WAYS = {"lora": "adapters on all linear layers, experts included", "full": "all weights"}
LONGEST_PROMPT = 512  # of a context; only how many prompts are kept beside the slots depends on it


@dataclasses.dataclass(frozen=True)
class Demand:
    """What is asked of the devices.

    Attributes:
      context: tokens of the longest sequence, prompt included, which a micro-batch holds one of on each
        device that has rows of its own.
      slots: sequences drawn at once, on all devices.
      rank: of the adapters.
    """
    context: int = 4096
    slots: int = 4
    rank: int = 16


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a checkpoint takes of each device of a mesh.

    Attributes:
      mesh: as it was given; empty: one device.
      way: a row of WAYS.
      least: bytes below which it cannot be; None: the model cannot be split so.
      refused: why it cannot.
      plan: what the bytes are made of.
    """
    mesh: str
    way: str
    least: int | None
    refused: str = ""
    plan: Plan | None = None

    def left(self, room: float) -> float | None:
        """Bytes of `room` that are left for temporaries; None where it does not fit."""
        return None if self.least is None or self.least > room else room - self.least


def mesh_sizes(mesh: str) -> dict[str, int]:
    """The axes of a text such as "fsdp=2,expert=4"; of an empty one none.

    Raises:
      MeshError: it cannot be read, or a size is none.
    """
    sizes = parse(mesh) if mesh else {}
    if -1 in sizes.values():
        raise MeshError(f"The mesh {mesh!r} takes what devices are left, and here there are none: give each "
                        "axis a size.")
    return inferred(sizes, math.prod(map(abs, sizes.values())))


def fit(each: KnownCheckpoint, mesh: str, way: str, demand: Demand, devices: Sequence[jax.Device]) -> Fit:
    """What a checkpoint takes at least.

    Args:
      mesh: see mesh_sizes.
      devices: that stand for those of the mesh, at least as many.
    """
    sizes = mesh_sizes(mesh)
    try:
        plan = counted_plan(_recipe(sizes, way, demand), each.config, devices[:math.prod(sizes.values())])
    except MeshError as error:
        return Fit(mesh, way, None, str(error))
    return Fit(mesh, way, max(plan.floor, plan.rollout_peak(True)), plan=plan)


def _tokens(sizes: dict[str, int], context: int) -> int:
    """Of the smallest micro-batch: one row for each part that the mesh splits rows into."""
    rows = math.prod(sizes.get(axis, 1) for axis in ROWS)
    parts = sizes.get("context", 1)
    width, _ = whole_batch(context, MOST_INT, (rows, 2 * parts if parts > 1 else 1))  # as Placement.shards
    return rows * width


def _recipe(sizes: dict[str, int], way: str, demand: Demand) -> Config:
    """In bfloat16, whole layers computed again in the backward pass, without a KL term."""
    config = base()
    config.model.path = config.data.path = "unused"
    config.model.dtype = "bfloat16"
    config.lora.rank = demand.rank if way == "lora" else 0
    config.algorithm.kl_coef = 0.0
    config.data.max_prompt_tokens = min(LONGEST_PROMPT, demand.context // 2)
    config.rollout.max_tokens = demand.context - config.data.max_prompt_tokens
    config.rollout.slots = demand.slots
    config.train.tokens_per_micro_batch = _tokens(sizes, demand.context)
    config.train.remat = "full"
    config.mesh.update(sizes)
    return resolve(config)
