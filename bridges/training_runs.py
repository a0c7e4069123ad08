"""The policy of a training run: its base model with the arrays of a checkpoint laid over it."""
import dataclasses
import os
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from flax import nnx

from bridges.errors import BridgeError, listed
from bridges.hf.importing import adapters, base_weights, load_model, routers, selection_biases
from bridges.peft.critics import FIELDS, KINDS
from jaxrl_moe.config import Config, ConfigError, resolve
from jaxrl_moe.learning.state import take_apart
from jaxrl_moe.model.config import LARGEST, LoraConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.model.value_head import Critic, ValueHead
from jaxrl_moe.outside import Fields, OutsideError, shown
from jaxrl_moe.runs.checkpoints import checkpoint, hashes
from jaxrl_moe.runs.checkpoints import meta as meta_files
from jaxrl_moe.runs.checkpoints.checkpoint import STATE
from jaxrl_moe.runs.checkpoints.identity import identity
from jaxrl_moe.runs.checkpoints.meta import FILE, META, Meta

TRAINED = "trainable/"
BIAS = "router_bias/"
CRITIC = "critic/"


def find_step(path: pathlib.Path) -> pathlib.Path | None:
    """The checkpoint folder that `path` means: itself, or the newest one of the run; None if it holds no
    checkpoints."""
    if any((path / item).is_dir() for item in (STATE, META)):
        return path
    for folder in (path / "checkpoints", path):
        steps = checkpoint.steps_in(folder)
        if steps:
            return folder / str(steps[-1])
    return None


def load_run(step: pathlib.Path, base: str | os.PathLike | None = None) -> tuple[Transformer, str]:
    """Reads the policy that a training checkpoint holds.

    Args:
      step: the folder of one checkpoint, from find_step.
      base: the model that training started from; None: the one named in the checkpoint's configuration.

    Returns:
      (the model with its trained arrays, the base model's folder or hub name).

    Raises:
      BridgeError: when the base is another model than the one trained, or an array is missing or unused.
      BridgeError, CheckpointError: when a file of the checkpoint is not what was written, or another version
        wrote it.
    """
    meta = _read(step)
    config = _config(meta, step)
    stored = {key.removeprefix("array ") for key in meta.identity
              if key.startswith((f"array {TRAINED}", f"array {BIAS}"))}
    lora = None
    if any(_our_path(name).endswith(".lora_a") for name in stored):
        if not config.lora.rank:
            raise BridgeError(f"{step} holds adapters, and its settings say lora.rank = 0. Put back an "
                              "undamaged copy.")
        router = any(_our_path(name).endswith(".router.weight") for name in stored)
        lora = LoraConfig(**dataclasses.asdict(config.lora), router=router)
    source = os.fspath(base or config.model.path)
    try:
        model = load_model(source, lora=lora, dtype=config.model.dtype or None)
    except BridgeError as error:
        raise BridgeError(f"The base model of {step} could not be read. {error} If it has moved, name it "
                          "with --base.") from error
    if lora is not None:
        _check_base(model, meta, source, step)
    _restore(model, stored, step)
    return model, source


def load_run_critic(step: pathlib.Path) -> tuple[Critic, str] | None:
    """Reads the critic of a training checkpoint; (it, the base model's folder or hub name), or None if there
    is none."""
    meta = _read(step)
    known = meta.identity
    if "critic" not in known:
        return None
    stored = [key.removeprefix("array ") for key in known if key.startswith(f"array {CRITIC}")]
    rows = {_our_path(name.removeprefix(CRITIC)): name for name in stored}
    fields = _identity(meta, step)
    kind = fields.string("critic", choices=KINDS)
    size = fields.integer("model hidden_size", least=1, most=LARGEST["hidden_size"])
    head = nnx.eval_shape(lambda: ValueHead(size, rngs=nnx.Rngs(0)))
    if set(rows) != set(FIELDS.values()):
        raise BridgeError(f"The metadata of {step} names the arrays {shown(sorted(rows))} of a critic, "
                          f"which has {', '.join(FIELDS.values())}. Put back an undamaged copy.")
    variables = {field: getattr(head, field) for field in rows}
    arrays = _arrays(step, {rows[field]: variable.shape for field, variable in variables.items()})
    for field, variable in variables.items():
        variable.set_value(arrays[rows[field]])
    return Critic(head, kind), _config(meta, step).model.path


def _read(step: pathlib.Path) -> Meta:
    """What a checkpoint says of itself; each of its files is compared with its hash first, at about a GB a
    second."""
    try:
        contents = meta_files.read(step)
        hashes.refuse_damaged(step)
    except OutsideError as error:
        others = [other for other in checkpoint.steps_in(step.parent) if str(other) != step.name]
        names = ", ".join(map(str, others))
        mend = f", or name another checkpoint: {step.parent} has {names}" if others else ""
        raise BridgeError(f"The checkpoint {step} cannot be read: {str(error).rstrip('.')}. Put back an "
                          f"undamaged copy{mend}.") from error
    return contents


def _identity(meta: Meta, step: pathlib.Path) -> Fields:
    return Fields(meta.identity, f"{step / META / FILE}: identity")


def _config(meta: Meta, step: pathlib.Path) -> Config:
    """The configuration that a checkpoint was written under."""
    try:
        return resolve(meta.config)
    except ConfigError as error:
        raise BridgeError(f"{step} was written under settings that this version does not have: "
                          f"{error}") from error


def _check_base(model: Transformer, meta: Meta, source: str, step: pathlib.Path):
    frozen = take_apart(model, model.lora.router)[0].frozen
    own = identity(model.config.to_hf(), {}, {}, frozen)
    if own["base weights"] != _identity(meta, step).values.get("base weights"):
        raise BridgeError(f"The adapters of {step} were trained on other weights (or another dtype) than "
                          f"those of {source}. Name the model that training started from with --base.")


def _restore(model: Transformer, stored: set[str], step: pathlib.Path):
    """Replaces the model's trained variables; only these are read, not the optimiser's state."""
    names = {_our_path(name): name for name in stored}
    variables = base_weights(model)
    if model.lora is not None:
        own = routers(model) if model.lora.router else {}
        variables = adapters(model) | own | selection_biases(model)
    elif not names.keys() & routers(model).keys():  # frozen in full fine-tuning
        variables = {path: variable for path, variable in variables.items() if path not in routers(model)}
    problems = [f"array {name} is missing" for name in variables if name not in names]
    problems += [f"array {name} is used by nothing" for path, name in names.items() if path not in variables]
    if problems:
        raise BridgeError(f"{step} does not fit the model: {listed(problems)}. Name the model that training "
                          "started from with --base.")
    arrays = _arrays(step, {names[path]: variable.shape for path, variable in variables.items()})
    for path, variable in variables.items():
        variable.set_value(arrays[names[path]].astype(variable.dtype))


def _arrays(step: pathlib.Path, shapes: Any):
    """The float32 arrays of these names and shapes from a checkpoint's state; nothing else of it is read."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted = {
        name: jax.ShapeDtypeStruct(shape, "float32", sharding=sharding) for name, shape in shapes.items()
    }
    restore = ocp.args.PyTreeRestore(wanted, ocp.checkpoint_utils.construct_restore_args(wanted),
                                     partial_restore=True)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore((step / STATE).absolute(), args=restore)


def _our_path(name: str) -> str:
    return name.removeprefix(TRAINED).removeprefix(BIAS).removesuffix("/value").replace("/", ".")
