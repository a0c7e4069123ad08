"""The whole configuration, its keys by their dotted names, and its form in files."""
import dataclasses
from typing import Any

import ml_collections

from jaxrl_moe import paths, spelling
from jaxrl_moe.config.algorithm import AlgorithmSection, CriticSection, MoeSection
from jaxrl_moe.config.episodes import EpisodesSection
from jaxrl_moe.config.inputs import DataSection, EnvSection, LoraSection, ModelSection, ScratchSection
from jaxrl_moe.config.named import expanded_files
from jaxrl_moe.config.sampling import EndpointSection, RolloutSection, ServersSection
from jaxrl_moe.config.setting import setting, setting_of
from jaxrl_moe.config.training import (
    CheckpointSection,
    EvalSection,
    LoggingSection,
    MeshSection,
    OptimizerSection,
    RolloutMeshSection,
    SftSection,
    TrainSection,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run is told."""
    seed: int = setting(0, "of all randomness: data, model from scratch, sampling, dropout",
                        at_least=0, at_most=2**31 - 1)
    run_dir: str = setting("runs/default", "folder that logs, checkpoints and exports go to", kind="path")
    model: ModelSection = ModelSection()
    scratch: ScratchSection = ScratchSection()
    lora: LoraSection = LoraSection()
    data: DataSection = DataSection()
    env: EnvSection = EnvSection()
    episodes: EpisodesSection = EpisodesSection()
    rollout: RolloutSection = RolloutSection()
    servers: ServersSection = ServersSection()
    endpoint: EndpointSection = EndpointSection()
    algorithm: AlgorithmSection = AlgorithmSection()
    critic: CriticSection = CriticSection()
    moe: MoeSection = MoeSection()
    mesh: MeshSection = MeshSection()
    rollout_mesh: RolloutMeshSection = RolloutMeshSection()
    optimizer: OptimizerSection = OptimizerSection()
    train: TrainSection = TrainSection()
    sft: SftSection = SftSection()
    eval: EvalSection = EvalSection()
    checkpoint: CheckpointSection = CheckpointSection()
    logging: LoggingSection = LoggingSection()

    def __post_init__(self):
        """A `~` at the beginning of a setting that is a path becomes the home folder here, once for all who
        read it."""
        _expand(self)


def _expand(section: Any) -> None:
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            changed = dataclasses.replace(value)
            _expand(changed)
        elif setting_of(field).kind == "path" and isinstance(value, str):
            changed = paths.expanded(value)
        elif setting_of(field).kind == "files" and isinstance(value, str):
            changed = expanded_files(value)
        else:
            continue
        if changed != value:
            object.__setattr__(section, field.name, changed)  # frozen from here on


SECTIONS = {
    field.name: field.type for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.type)}


def base() -> ml_collections.ConfigDict:
    """The defaults as a locked ConfigDict: a recipe starts from it, and a misspelt key fails at once."""
    defaults = dataclasses.asdict(Config())
    sections = {name: _Section(value) if isinstance(value, dict) else value
                for name, value in defaults.items()}
    return ml_collections.ConfigDict(sections).lock()


class _Section(ml_collections.ConfigDict):
    """Takes no truth for a number, as ConfigDict does, which makes 1.0 of it before anybody sees it."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, bool) and isinstance(self._fields.get(key), float):
            raise TypeError(f"{key} = {value} is no number")
        super().__setitem__(key, value)


def to_json(config: Config) -> dict[str, Any]:
    """The Config as plain JSON values; `resolve` reads them back to an equal Config."""
    return dataclasses.asdict(config, dict_factory=lambda items: {
        name: list(value) if isinstance(value, tuple) else value for name, value in items})


def known_fields() -> dict[str, dataclasses.Field]:
    """Every settable key, dotted, with its field, whose default, type and `setting_of` describe it."""
    keys = {}
    for field in dataclasses.fields(Config):
        if field.name in SECTIONS:
            keys |= {f"{field.name}.{inner.name}": inner for inner in dataclasses.fields(field.type)}
        else:
            keys[field.name] = field
    return keys


def known_keys() -> dict[str, type]:
    """Every settable key, dotted, with its type: {"seed": int, "lora.rank": int, ...}."""
    return {key: field.type for key, field in known_fields().items()}


def value_of(config: Config, key: str) -> Any:
    """The value of a setting by its dotted key."""
    value = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def is_known(key: str) -> bool:
    """Whether the dotted key is a setting or a section."""
    return key in SECTIONS or key in known_keys()


def nearest(key: str) -> str:
    """The setting that a misspelt key most likely means, or what there is to choose from, as a sentence."""
    section, _, name = key.partition(".")
    known = list(known_keys())
    if section in SECTIONS:
        inner = [other.partition(".")[2] for other in known if other.startswith(section + ".")]
        match = spelling.nearest(name, inner)
        close = f"{section}.{match}" if match else next(
            (other for other in known if other.endswith("." + name)), "")
    else:
        inner = []
        close = spelling.nearest(key, [*known, *(() if name else SECTIONS)])
    if close:
        return f"Did you mean {close!r}?"
    if inner:
        return f"Those of {section} are {', '.join(inner)}."
    return f"The sections are {', '.join(SECTIONS)}."
