"""Architectures and known checkpoints as a table, and as JSON."""
from collections.abc import Sequence
from typing import Any

from jaxrl_moe.model.families.registry import families
from jaxrl_moe.planning.catalogue import KnownCheckpoint
from jaxrl_moe.planning.fits import WAYS, Demand, Fit

GIB = 2**30
SORTED = {"parameters": lambda each: each.parameters, "active": lambda each: each.active_parameters,
          "bytes": lambda each: each.bytes, "name": lambda each: each.name.lower()}
NUMBERS = ("parameters", "active", "GiB in bfloat16", "context")


def architecture_lines() -> list[str]:
    """The families of models that this package has, whatever their size."""
    rows = [(name, family.title) for family in families() for name in family.architectures]
    return ["Architectures, as config.json names them; any size of these works:",
            *(f"  {name} ({title})" for name, title in rows)]


def checkpoint_lines(rows: Sequence[tuple[KnownCheckpoint, Sequence[Fit]]], room: float) -> list[str]:
    """A table of checkpoints, with a column for each mesh and way of training.

    Args:
      rows: each checkpoint with what it takes; all have the same meshes and ways.
      room: bytes of a device.
    """
    fits = rows[0][1] if rows else ()
    headings = ["checkpoint", *NUMBERS, *(f"{one.way}, {one.mesh or 'one device'}" for one in fits)]
    cells = [[each.name, f"{each.parameters / 1e9:.2f} B", f"{each.active_parameters / 1e9:.2f} B",
              f"{each.bytes / GIB:.1f}", f"{each.config.context:,}", *(_cell(one, room) for one in own)]
             for each, own in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells)]
    return [_line(line, widths) for line in (headings, *cells)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = cells
    return "  ".join([name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])])


def _cell(one: Fit, room: float) -> str:
    if one.least is None:
        return "not so"
    left = one.left(room)
    return f"{one.least / GIB:.1f}, {'no' if left is None else f'{left / GIB:.1f} left'}"


def explanation(fits: Sequence[Fit], demand: Demand, room: float) -> list[str]:
    """What the numbers of the meshes count, and what they do not; why a model cannot be split so."""
    if not fits:
        return []
    refused = dict.fromkeys(one.refused for one in fits if one.refused)
    ways = "; ".join(f"{way}: {meaning}" for way, meaning in WAYS.items())
    return [f"GiB of each device, at least, and what is left of {room / GIB:.0f}. Counted: the weights in "
            f"bfloat16; what is trained ({ways}; adapters have rank {demand.rank}), in float32, with its "
            "gradient and Adam's two moments; and the larger of what the layers keep for the backward pass, "
            f"each computed again there, of a sequence of {demand.context:,} tokens, and of the KV pool of "
            f"{demand.slots} such sequences.",
            "Not counted: temporaries of the programs (of a micro-batch of 30B from 6 to 29 GiB, see "
            "benchmarks/plan.md), a value head, a reference policy. `no` is certain, but where "
            "train.offload=optimizer keeps the moments in the host's memory; what is left may be too little: "
            "scripts/plan.py compiles the run's own programs and says.",
            *(f"not so: {reason}" for reason in refused)]


def plain(each: KnownCheckpoint, fits: Sequence[Fit], room: float) -> dict[str, Any]:
    """As JSON; sizes are in bytes."""
    return {"name": each.name, "architecture": each.architecture, "parameters": each.parameters,
            "active_parameters": each.active_parameters, "bytes": each.bytes,
            "context": each.config.context, "fits": [_plain_fit(one, room) for one in fits]}


def _plain_fit(one: Fit, room: float) -> dict[str, Any]:
    told = {"mesh": one.mesh, "way": one.way, "least_bytes": one.least, "left_bytes": one.left(room)}
    if one.plan is None:
        return told | {"refused": one.refused}
    names = ("frozen", "trained", "gradient", "optimiser", "published", "kept", "kv")
    return told | {"devices": one.plan.devices, "counted": {name: getattr(one.plan, name) for name in names}}
