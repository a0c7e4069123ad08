"""scripts/verify_setup.py: what a start would be refused for, line by line, and what only trying tells."""
import dataclasses
import importlib.metadata
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from jaxrl_moe import partials
from jaxrl_moe.checks import run_dir, tasks
from jaxrl_moe.checks.data import QUESTION, remarks
from jaxrl_moe.checks.entry import by_name
from jaxrl_moe.checks.sections.rollout import warn_of_staleness
from jaxrl_moe.checks.start import Start
from jaxrl_moe.config import Config
from jaxrl_moe.distributed import placements
from jaxrl_moe.distributed.selftest import check_collectives
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.hosts import hosts
from jaxrl_moe.runs.checkpoints.resuming import resumed_step
from jaxrl_moe.types import UserError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "safetensors", "transformers",
            "ml_collections")
PROBE = ".probe_"  # begins the name of a file that a process tries its disk with, and its number ends it


@dataclasses.dataclass(frozen=True)
class Checked:
    """One line: what was checked, whether it is right, and what there is or what is wrong."""
    name: str
    passed: bool
    text: str


def check_all(start: Start,
              beside: Mapping[str, Callable[[Config], str]] = MappingProxyType({})) -> Iterator[Checked]:
    """Runs every check; one that fails does not keep the others from running.

    But for the first: processes with different settings would wait for each other for ever.

    Args:
      start: what is about to start.
      beside: further lines by name, of what stands beside the run; each says what there is, or raises
        UserError. Process 0 alone asks.
    """
    recipe = _tried("recipe", _recipe, start)
    yield recipe
    if not hosts.smallest(int(recipe.passed)):
        return
    problems = by_name(start)
    if start.rl:
        warn_of_staleness(start.config)
    lines: list[tuple[str, Callable[[Start], str]]] = [
        ("versions", _versions),
        ("devices", _devices),
        ("settings", _settings),
        ("model", _model),
        ("mesh", mesh_line),
        ("collectives", _collectives),
        ("tokenizer", _tokenizer),
        ("data", _data),
        ("run_dir", _run_dir),
        ("checkpoints", _checkpoints),
        ("task", _task),
        ("servers", _servers),
        ("endpoint", _endpoint)]
    sound = not problems["settings"]
    for name, describe in lines:
        refused = problems.get(name, [])
        if name == "servers" and not refused and not sound:
            yield Checked(name, True, "will be asked once the settings are sound")
        else:
            yield (Checked(name, False, " ".join(map(str, refused))) if refused
                   else _tried(name, describe, start))
    for name, ask in beside.items():
        yield _tried(name, lambda start, ask=ask: hosts.from_leader(lambda: ask(start.config)), start)


def _tried(name: str, describe: Callable[[Start], str], start: Start) -> Checked:
    try:
        return Checked(name, True, describe(start))
    except (UserError, OSError, jax.errors.JaxRuntimeError) as error:  # the last: a device or link that fails
        return Checked(name, False, str(error))


def _recipe(start: Start) -> str:
    run_dir.refuse_other_settings(start.recipe)
    return f"the same in {jax.process_count()} process(es)"


def _versions(start: Start) -> str:
    """Against the ranges that this package itself declares for this Python."""
    from packaging.requirements import Requirement
    installed = {name: importlib.metadata.version(name) for name in PACKAGES}
    declared = [Requirement(line) for line in importlib.metadata.requires("jaxrl-moe") or []]
    wanted = [need for need in declared if need.name in installed and _applies(need)]
    wrong = [f"{need.name} {installed[need.name]} (needs {need.specifier})" for need in wanted
             if not need.specifier.contains(installed[need.name], prereleases=True)]
    if wrong:
        raise UserError(f"Versions outside of what is supported: {', '.join(wrong)}. Run pip install -e . "
                        "again.")
    return ", ".join(f"{name} {version}" for name, version in installed.items())


def _applies(need: Any) -> bool:
    """Whether a requirement is for this Python, and of no extra."""
    return need.marker is None or need.marker.evaluate({"extra": ""})


def _devices(start: Start) -> str:
    devices = jax.devices()
    stats = jax.local_devices()[0].memory_stats() or {}  # of another process nobody here can tell
    memory = f", {stats['bytes_limit'] / 2**30:.0f} GiB each" if "bytes_limit" in stats else ""
    return f"{len(devices)} x {devices[0].device_kind} in {jax.process_count()} process(es){memory}"


def _settings(start: Start) -> str:
    return "every setting is known, and none contradicts another"


def _model(start: Start) -> str:
    path = start.config.model.path
    model = start.model
    if start.makes_model:
        return f"{path} will be made from scratch: {model.family}, {model.num_layers} layers"
    shape = f"{model.family}, {model.num_layers} layers"
    return f"{path}: {shape}, every tensor is there; context and adapters fit"


def mesh_line(start: Start) -> str:
    """The axes of training's mesh, and of the rollout's where it has its own.

    Raises:
      UserError: they do not fit.
    """
    trained = _axes(placements.placement(start.config, None))
    if not start.config.rollout_mesh.apart:
        return trained
    drawn = _axes(placements.rollout_placement(start.config, None))
    return f"training on {trained}, rollout on {drawn} beside it"


def _axes(placed: Placement | None) -> str:
    axes = () if placed is None else [axis for axis in placed.mesh.axis_names if placed.layout.size(axis) > 1]
    return " x ".join(f"{axis} {placed.layout.size(axis)}" for axis in axes) or "a single device"


def _collectives(start: Start) -> str:
    places = [placements.placement(start.config, None)]
    if start.config.rollout_mesh.apart:
        places.append(placements.rollout_placement(start.config, None))
    results = [result for placed in places if placed is not None for result in check_collectives(placed)]
    if not results:
        return "none is needed on a single device"
    wrong = [f"{name} over {axis} (off by {gap:g})" for axis, name, gap in results if not gap <= 1e-3]
    if wrong:
        raise UserError(f"Collectives give wrong sums: {', '.join(wrong)}. Look at the interconnect and at "
                        "XLA's flags; a smaller mesh may show which devices are at fault.")
    return f"{len(results)} run and right"


def _tokenizer(start: Start) -> str:
    if start.makes_model:
        return "will be trained with the model"
    ids = start.tokenizer.render(QUESTION, generation_prompt=True)
    ends = tuple(start.tokenizer.eos_ids)
    return f"chat template renders ({len(ids)} tokens for a short question), ends at {ends}"


def _data(start: Start) -> str:
    return "; ".join(data_lines(start))


def data_lines(start: Start) -> list[str]:
    """What the data holds, file by file."""
    data = start.config.data
    sft = start.config.sft
    if start.makes_data:
        return [f"{made} will be made in {folder}" for folder, made in start.unmade.items()]
    if start.makes_model:
        return ["will be read with the model's tokenizer once that is there; its rows are sound"]
    prompts = [f"{data.source}: {len(start.prompts[0])} prompts"] if start.rl else []
    held_out = [f"{data.eval_source}: {len(start.held_out[0])} held-out prompts"] if data.eval_source else []
    conversations = [f"{sft.source}: {len(start.conversations[0])} conversations"] if start.sft else []
    return [*prompts, *held_out, *conversations, *(f"Warning: {remark}" for remark in remarks(start))]


def _run_dir(start: Start) -> str:
    """Written to for real; its disk must have some room."""
    folder = pathlib.Path(start.config.run_dir)
    parent = run_dir.nearest(folder)
    for left in parent.glob(f"{PROBE}*"):  # of who was killed
        process = left.name.removeprefix(PROBE)
        if process.isdecimal() and not partials.runs(int(process)):
            left.unlink(missing_ok=True)
    probe = parent / f"{PROBE}{os.getpid()}"
    probe.write_bytes(np.random.default_rng(0).bytes(1 << 16))
    try:
        if len(probe.read_bytes()) != 1 << 16:
            raise UserError(f"{parent} does not give back what is written to it.")
    finally:
        probe.unlink()
    return f"{folder} can be written, {run_dir.check_space(parent) / 2**30:.0f} GiB free"


def _checkpoints(start: Start) -> str:
    step = resumed_step(start.config, pathlib.Path(start.config.run_dir))
    return f"the run goes on from step {step}" if step >= 0 else "none yet: the run starts at step 0"


def _task(start: Start) -> str:
    """What it needs elsewhere; process 0 alone asks."""
    if not start.config.env.name:
        return "none: env.name names none"
    if list(tasks.problems(start)):
        return "will be asked once the settings are sound"
    hosts.on_leader(start.task.ready)
    turns = start.task.max_turns
    return f"{start.config.env.name} is ready" + f", up to {turns} turns an episode" * (turns > 1)


def _servers(start: Start) -> str:
    """Those that draw the rollouts; process 0 alone talks to them."""
    if not start.on_servers:
        return "none: this process draws the rollouts"
    return hosts.from_leader(lambda: _answers(start))


def _answers(start: Start) -> str:
    """In process 0 alone, whatever may fail included: the others wait for what it says."""
    if start.makes_model:
        return f"will be asked once {start.config.model.path} is made"
    try:
        return start.bridge.check_servers(start.config, placements.placement(start.config, start.model))
    except (OSError, jax.errors.JaxRuntimeError) as error:  # as what the others report too
        raise UserError(str(error)) from error


def _endpoint(start: Start) -> str:
    endpoint = start.config.endpoint
    if not endpoint.serve:
        return "none: endpoint.serve is false"
    return f"will listen on {endpoint.host} port {endpoint.port}"
