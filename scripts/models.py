"""Lists the architectures and the known checkpoints that can be trained here, and which of them fit a mesh.

    python scripts/models.py
    python scripts/models.py --names
    python scripts/models.py --mesh=fsdp=2,expert=4 --mesh=expert=8 --lora_rank=16 --context=4096 --json
    python scripts/models.py --model_config=my_model/config.json --chip=H100 --sort=active

Any checkpoint of these architectures works, listed or not: model.path takes a folder or a name on the hub.
What is listed are the files of configs/shapes. Nothing is compiled, no weights are read, and no GPU is
needed: what a run takes in the end, scripts/plan.py says.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import json
import math
import pathlib

from absl import flags

from jaxrl_moe import cli
from jaxrl_moe.options import define_number, define_path, define_switch, define_texts
from jaxrl_moe.types import UserError

SHAPES = pathlib.Path(__file__).resolve().parents[1] / "configs" / "shapes"
MOST_DEVICES = 4096
NAMES = define_switch("names", False, "the names of the known checkpoints alone, one a line")
JSON = define_switch("json", False, "one JSON document in place of the tables; sizes in bytes")
SORT = flags.DEFINE_enum("sort", "parameters", ["parameters", "active", "bytes", "name"],
                         "what the table is sorted by")
MESHES = define_texts("mesh", "axes and sizes, such as fsdp=2,expert=4, over which training and rollout are "
                      "split; none: one device")
RANK = define_number("lora_rank", 16, "of the adapters", 1, 4096)
CONTEXT = define_number("context", 4096, "tokens of the longest sequence, prompt included", 2, 1 << 20)
SLOTS = define_number("slots", 4, "sequences drawn at once, on all devices", 1, 1 << 16)
CHIP = flags.DEFINE_string("chip", "H200", "the accelerator, see jaxrl_moe/distributed/chips.py")
GIB = define_number("device_gib", 0.0, "GiB of a device that a run has; 0: what JAX gets of the chip, 131 of "
                    "an H200")
SHAPE = define_path("model_config", None, "config.json of another model, which is listed alone")


def main() -> None:
    refuse_idle()
    meshes = MESHES.value or [""]
    stand_for_devices(meshes)
    from jaxrl_moe.planning import catalogue, listing
    known = [catalogue.checkpoint(pathlib.Path(SHAPE.value))] if SHAPE.value else catalogue.catalogue(SHAPES)
    known = sorted(known, key=listing.SORTED[SORT.value])
    if NAMES.value:
        print("\n".join(each.name for each in known))
        return
    room = room_of_a_device()
    rows, demand = fitted(known, meshes)
    if JSON.value:
        print(json.dumps([listing.plain(each, fits, room) for each, fits in rows], indent=1))
        return
    every = [one for _, fits in rows for one in fits]
    sections = (listing.architecture_lines(), listing.checkpoint_lines(rows, room),
                listing.explanation(every, demand, room))
    print("\n\n".join("\n".join(lines) for lines in sections))


def refuse_idle() -> None:
    """Raises UserError for an option that another one leaves without effect."""
    if GIB.value and flags.FLAGS["chip"].present:
        raise UserError("--chip has no effect beside --device_gib, which says what a device has: leave one "
                        "of them out.")
    if NAMES.value and (JSON.value or MESHES.value):
        idle = "json" if JSON.value else "mesh"
        raise UserError(f"--{idle} has no effect with --names, which prints names alone: leave one of them "
                        "out.")


def room_of_a_device() -> float:
    """Bytes."""
    from jaxrl_moe.distributed.chips import find_chip
    return GIB.value * 2**30 or find_chip(CHIP.value).client_memory()


def stand_for_devices(meshes: list[str]) -> None:
    """Has as many virtual CPU devices as the largest mesh names, before JAX looks for any."""
    import jax

    from jaxrl_moe.planning import fits
    count = max(math.prod(fits.mesh_sizes(mesh).values()) for mesh in meshes)
    if count > MOST_DEVICES:
        raise UserError(f"--mesh names {count:,} devices; at most {MOST_DEVICES:,} are counted for.")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)


def fitted(known: list, meshes: list[str]) -> tuple[list, object]:
    """([(checkpoint, what it takes on each mesh in each way)], what is asked of the devices)."""
    import jax

    from jaxrl_moe.planning import fits
    demand = fits.Demand(CONTEXT.value, SLOTS.value, RANK.value)
    devices = jax.devices()
    return [(each, [fits.fit(each, mesh, way, demand, devices) for mesh in meshes for way in fits.WAYS])
            for each in known], demand


if __name__ == "__main__":
    cli.run(main, recipe=False)
