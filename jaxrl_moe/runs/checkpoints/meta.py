"""What a checkpoint says of itself in JSON: where the run stood, what it belongs to, and its settings."""
import dataclasses
import importlib.metadata
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxrl_moe import log_files
from jaxrl_moe.learning.state import ROUTER, trains_router
from jaxrl_moe.outside import Fields, OutsideError, read_object
from jaxrl_moe.rl.advantages import find_advantage
from jaxrl_moe.types import UserError

META = "meta"  # folder and file in a checkpoint's
FILE = "metadata"
FORMAT = 2  # 2: hashes of the files, positions in rows, the optimiser's arrays by their meaning


class CheckpointError(UserError):
    """A checkpoint that cannot be saved or does not belong to this run."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands after `step` optimisation steps; all values are JSON.

    Attributes:
      step: finished steps.
      sequence: the draw counter: number of the next prompt drawn, which with the seed decides its noise.
      data: position in the order of the prompts, or of SFT's conversations.
      unfinished: [draw number, prompt's index] of prompts that were drawn before these, but neither trained
        on nor set aside: they are drawn again, under their own numbers.
      best_score: highest evaluation score so far, or None.
      kl_coef: the adaptive KL coefficient of the next step, or None.
    """
    step: int = 0
    sequence: int = 0
    data: Any = None
    unfinished: list = dataclasses.field(default_factory=list)
    best_score: float | None = None
    kl_coef: float | None = None


@dataclasses.dataclass(frozen=True)
class Meta:
    """A checkpoint's JSON.

    Attributes:
      progress: where the run stood.
      identity: what must agree with the run that loads it, as from `identity.identity`.
      config: the resolved configuration.
      logs: {file: {"rows", "steps"}} that the logs held then, as from log_files.Tally.
      score: the evaluation at this step, or None.
    """
    progress: Progress
    identity: Mapping[str, Any]
    config: Mapping[str, Any]
    logs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    score: float | None = None


def write(step: pathlib.Path, meta: Meta) -> None:
    """Writes it into the folder of a checkpoint."""
    values = {"format": FORMAT, "written_by": f"jaxrl_moe {_version()}", **dataclasses.asdict(meta)}
    (step / META).mkdir()
    log_files.replace(step / META / FILE, json.dumps(values, allow_nan=False).encode())


def read(step: pathlib.Path) -> Meta:
    """The JSON of the checkpoint in a folder that is named by its step.

    Raises:
      CheckpointError: another version of this package wrote it.
      OutsideError: it is damaged.
    """
    path = step / META / FILE
    fields = Fields(read_object(path), str(path))
    written = fields.integer("format", 1)
    if written != FORMAT:
        writer = fields.string("written_by", "jaxrl_moe 0.1.0 before December 2026")
        raise CheckpointError(f"The checkpoint {step} was written by {writer}, in format {written}; this "
                              f"version, jaxrl_moe {_version()}, reads format {FORMAT} alone. Go on with the "
                              "version that wrote it, or give another run_dir.")
    progress = _progress(fields.object("progress"))
    if step.name.isdigit() and progress.step != int(step.name):
        raise OutsideError(f"{path}: progress.step is {progress.step}, but the folder is that of step "
                           f"{step.name}.")
    score = fields.number("score", None)
    return Meta(progress, fields.object("identity").values, fields.object("config").values,
                fields.object("logs").values, score)


def _progress(fields: Fields) -> Progress:
    fields.only(field.name for field in dataclasses.fields(Progress))
    data = fields.object("data", None)
    unfinished = fields.values.get("unfinished", [])
    if not isinstance(unfinished, list) or not all(map(_is_pair, unfinished)):
        raise OutsideError(f"{fields.where}: unfinished is no list of pairs of integers.")
    return Progress(
        fields.integer("step"), fields.integer("sequence", 0), data and dict(data.values), unfinished,
        fields.number("best_score", None), fields.number("kl_coef", None, least=0))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and [type(number) for number in value] == [int, int] and min(value) >= 0


def _version() -> str:
    return importlib.metadata.version("jaxrl-moe")


def lasting_changes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{setting: (its value in the checkpoint, its value now)} of those that decide what a checkpoint holds or
    in which order its run goes on, and differ. All others may change from start to start.

    Args:
      saved, now: configurations as JSON.
    """
    keys = {"seed": ("seed",), "lora.rank": ("lora", "rank")}
    differing = {key: (_value(saved, path), _value(now, path)) for key, path in keys.items()}
    lora = bool(_value(saved, ("lora", "rank"))) and bool(_value(now, ("lora", "rank")))
    if lora:
        names = sorted({*saved["lora"], *now["lora"]})
        paths = {f"lora.{name}": ("lora", name) for name in names} | {"model.dtype": ("model", "dtype")}
        differing |= {key: (_value(saved, path), _value(now, path)) for key, path in paths.items()}
    for key, path, meaning in (("algorithm.advantage", ("algorithm", "advantage"), _critic),
                               ("moe.router", ("moe", "router"), _router)):
        if meaning(saved) != meaning(now) and differing["lora.rank"][0] == differing["lora.rank"][1]:
            differing[key] = _value(saved, path), _value(now, path)
    if not differing.get("model.dtype", ("", ""))[1]:  # empty: that of the run is taken
        differing.pop("model.dtype", None)
    return {key: values for key, values in differing.items() if values[0] != values[1]}


def _critic(config: Mapping[str, Any]) -> str:
    """The kind of critic that a configuration asks for."""
    advantage = _value(config, ("algorithm", "advantage"))
    return find_advantage(advantage).critic if advantage else ""


def _router(config: Mapping[str, Any]) -> bool:
    """Whether routers are trained."""
    setting = _value(config, ("moe", "router"))
    return trains_router(bool(_value(config, ("lora", "rank"))), ROUTER.get(setting))


def _value(config: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = config
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
