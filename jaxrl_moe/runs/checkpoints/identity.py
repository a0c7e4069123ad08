"""What a checkpoint belongs to: the model, what of it is trained, and over which weights."""
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.learning.state import fingerprint, flat_arrays
from jaxrl_moe.runs.checkpoints.meta import CheckpointError, Meta, lasting_changes

REFERENCE = "reference weights"  # key of an identity


def identity(model_config: dict, lora: dict, state: Any, frozen: Any) -> dict:
    """What must agree between a checkpoint and the run that loads it.

    Args:
      model_config: the model's configuration as a dict.
      lora: the lora section as JSON.
      state: pytree of the arrays that are trained and their optimiser state.
      frozen: pytree of the weights that stay as loaded; a few values of each are hashed, so that a checkpoint
        of adapters is not laid over another base of the same shape.
    """
    shapes = {f"array {name}": f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in flat_arrays(state).items()}
    return {f"model {key}": value for key, value in model_config.items()} | {
        f"lora.{key}": value for key, value in lora.items()} | shapes | {"base weights": fingerprint(frozen)}


def refuse_other(folder: pathlib.Path, contents: Meta, identity: Mapping[str, Any], config: Mapping[str, Any]
                 ) -> None:
    """Compares what the checkpoint in a folder belongs to with a run.

    Args:
      contents: the checkpoint's.
      identity, config: the run's.

    Raises:
      CheckpointError: it belongs to another run; the settings that differ are named, or else what of the
        model does.
    """
    differences = [_difference(key, *values) for key, values in lasting_changes(contents.config,
                                                                                config).items()]
    ours = json.loads(json.dumps(identity))
    differing = [key for key in sorted(contents.identity.keys() | ours.keys())
                 if contents.identity.get(key) != ours.get(key)]
    if REFERENCE not in contents.identity.keys() & ours.keys():
        differing = [key for key in differing if key != REFERENCE]  # a KL term that came or went
    if not differences:
        own = [key for key in differing if not key.startswith("array ")] or differing
        differences = [_difference(key, contents.identity.get(key), ours.get(key)) for key in own]
    if differences:
        more = f" and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise CheckpointError(
            f"The checkpoint {folder} belongs to another model or run ({'; '.join(differences[:5])}{more}). "
            "Give a fresh run_dir, or set these as they were; the checkpoint's own configuration stands in "
            "its meta folder.")


def _difference(key: str, there: Any, here: Any) -> str:
    return f"{key}: {_short(there)} there, {_short(here)} here"


def _short(value: Any) -> str:
    return "absent" if value is None else str(value)[:80]
