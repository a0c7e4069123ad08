"""What a run needs from its machine, checked one thing at a time before anyone waits for it."""
import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

import jax
import numpy as np

from jaxrl_moe import phases
from jaxrl_moe.checks import preflight, validate
from jaxrl_moe.config import Config
from jaxrl_moe.data.prompts import load_prompts
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.distributed import placements
from jaxrl_moe.distributed.selftest import check_collectives
from jaxrl_moe.envs import check_rows, make_task
from jaxrl_moe.hosts import hosts
from jaxrl_moe.protocols import Bridge
from jaxrl_moe.runs.scratch import to_be_made
from jaxrl_moe.types import UserError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "safetensors", "transformers", "ml_collections")
LEAST_FREE = 1 << 30  # bytes that a run's folder should have


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One line: what was checked, whether it is right, and what was found or what is wrong."""
    name: str
    passed: bool
    text: str


def check_all(config: Config, bridge: Bridge) -> Iterator[Outcome]:
    """Runs every check; one that fails does not keep the others from running, but for the first: processes with different settings would
    wait for each other for ever.

    Args:
      config: resolved.
      bridge: reads the model.
    """
    checks: list[tuple[str, Callable[[Config, Bridge], str]]] = [
        ("recipe", _recipe), ("versions", _versions), ("devices", _devices), ("settings", _settings), ("model", _model), ("mesh", _mesh),
        ("collectives", _collectives), ("tokenizer", _tokenizer), ("data", _data), ("run_dir", _run_dir), ("checkpoints", _checkpoints),
        ("servers", _servers)]
    for name, check in checks:
        outcome = _outcome(name, check, config, bridge)
        yield outcome
        if check is _recipe and not hosts.smallest(int(outcome.passed)):
            return


def _outcome(name, check, config, bridge) -> Outcome:
    try:
        return Outcome(name, True, check(config, bridge))
    except (UserError, OSError, jax.errors.JaxRuntimeError) as error:  # the last: a device or a link that fails
        return Outcome(name, False, str(error))


def _recipe(config, bridge) -> str:
    preflight.refuse_other_settings(config)
    return f"the same in {jax.process_count()} process(es)"


def _versions(config, bridge) -> str:
    """Against the ranges that this package itself declares for this Python."""
    from packaging.requirements import Requirement
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    declared = [Requirement(line) for line in importlib.metadata.requires("jaxrl-moe") or []]
    wanted = [one for one in declared if one.name in found and (one.marker is None or one.marker.evaluate({"extra": ""}))]
    wrong = [f"{one.name} {found[one.name]} (needs {one.specifier})" for one in wanted
             if not one.specifier.contains(found[one.name], prereleases=True)]
    if wrong:
        raise UserError(f"Versions outside of what is supported: {', '.join(wrong)}. Run pip install -e . again.")
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _devices(config, bridge) -> str:
    devices = jax.devices()
    stats = jax.local_devices()[0].memory_stats() or {}  # of another process nobody here can tell
    memory = f", {stats['bytes_limit'] / 2**30:.0f} GiB each" if "bytes_limit" in stats else ""
    return f"{len(devices)} x {devices[0].device_kind} in {jax.process_count()} process(es){memory}"


def _settings(config, bridge) -> str:
    validate.validate(config)
    return "every setting is known, and none contradicts another"


def _model(config, bridge) -> str:
    if to_be_made(config):
        return f"{config.model.path} will be made from scratch"
    bridge.check_tensors(config.model.path)
    preflight.check_context(config, preflight.context_length(config, bridge), draws=True, sft=phases.has_warm_up(config))
    preflight.check_adapters(config, bridge)
    model = bridge.model_config(config.model.path)
    return f"{config.model.path}: {model.family}, {model.num_layers} layers, every tensor is there; context and adapters fit"


def _mesh(config, bridge) -> str:
    model = None if to_be_made(config) else bridge.model_config(config.model.path)
    preflight.check_micro_batches(config, rl=config.train.steps > 0, sft=phases.has_warm_up(config))
    found = [_axes(place) for place in (placements.placement(config, model), placements.rollout_placement(config, model))]
    return f"training on {found[0]}, rollout on {found[1]} beside it" if config.rollout_mesh.apart else found[0]


def _axes(place) -> str:
    axes = () if place is None else [axis for axis in place.mesh.axis_names if place.layout.size(axis) > 1]
    return " x ".join(f"{axis} {place.layout.size(axis)}" for axis in axes) or "a single device"


def _collectives(config, bridge) -> str:
    places = [placements.placement(config, None)]
    if config.rollout_mesh.apart:
        places.append(placements.rollout_placement(config, None))
    results = [result for place in places if place is not None for result in check_collectives(place)]
    if not results:
        return "none is needed on a single device"
    wrong = [f"{name} over {axis} (off by {gap:g})" for axis, name, gap in results if not gap <= 1e-3]
    if wrong:
        raise UserError(f"Collectives give wrong sums: {', '.join(wrong)}. Look at the interconnect and at XLA's flags; a smaller mesh "
                        "may show which devices are at fault.")
    return f"{len(results)} run and right"


def _tokenizer(config, bridge) -> str:
    if to_be_made(config):
        return "will be trained with the model"
    tokenizer = load_tokenizer(config.model.path)
    tokenizer.check_stop_strings(config.rollout.stop_strings)
    ids = tokenizer.render([{"role": "user", "content": "1 + 1 = ?"}], generation_prompt=True)
    return f"chat template renders ({len(ids)} tokens for a short question), ends at {tuple(tokenizer.eos_ids)}"


def _data(config, bridge) -> str:
    if to_be_made(config) or (config.data.generate and not pathlib.Path(config.data.path).exists()):
        return "will be made, or read with the model's tokenizer once that is there"
    tokenizer, found = load_tokenizer(config.model.path), []
    for evaluation, path in ((False, config.data.path), (True, config.data.eval_path)):
        if path:
            prompts, _ = load_prompts(config.data, tokenizer, evaluation=evaluation, context=preflight.context_length(config, bridge))
            with contextlib.closing(make_task(config.env.name)) as task:
                check_rows(task, prompts)
            found.append(f"{path}: {len(prompts)} prompts")
    return "; ".join(found)


def _run_dir(config, bridge) -> str:
    """Written to for real; its disk must have some room."""
    folder = pathlib.Path(config.run_dir)
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    probe = parent / f".probe_{os.getpid()}"
    probe.write_bytes(np.random.default_rng(0).bytes(1 << 16))
    try:
        if len(probe.read_bytes()) != 1 << 16:
            raise UserError(f"{parent} does not give back what is written to it.")
    finally:
        probe.unlink()
    free = shutil.disk_usage(parent).free
    if free < LEAST_FREE:
        raise UserError(f"{parent} has {free / 2**20:.0f} MiB left; a run writes checkpoints and exports there. Free some, or give "
                        "another run_dir.")
    return f"{folder} can be written, {free / 2**30:.0f} GiB free"


def _checkpoints(config, bridge) -> str:
    preflight.refuse_other_seed(config)
    steps = [int(path.name) for path in (pathlib.Path(config.run_dir) / "checkpoints").glob("*") if path.name.isdigit()]
    return f"the run goes on from step {max(steps)}" if steps else "none yet: the run starts at step 0"


def _servers(config, bridge) -> str:
    """Those that draw the rollouts; process 0 alone talks to them."""
    if config.rollout.backend == "jax":
        return "none: this process draws the rollouts"
    return hosts.from_leader(lambda: _answers(config, bridge))


def _answers(config, bridge) -> str:
    """In process 0 alone, whatever may fail included: the others wait for what it says."""
    validate.validate(config)  # what follows takes sound settings for granted
    if to_be_made(config):
        return f"will be asked once {config.model.path} is made"
    try:
        return bridge.check_servers(config, placements.placement(config, bridge.model_config(config.model.path)))
    except (OSError, jax.errors.JaxRuntimeError) as error:  # as what the others report too
        raise UserError(str(error)) from error
