"""The configuration: a frozen dataclass per section, and a ConfigDict over them for files and command lines.

A recipe calls `base()`, changes what differs, and returns the ConfigDict. After command-line overrides
`resolve()` checks it and turns it into a `Config`; past that point no ConfigDict is left. Each setting says
at its field what it means, in what unit, and which values it may have; `--help` and the checks read that.
"""
from jaxrl_moe.config.algorithm import AlgorithmSection, CriticSection, MoeSection
from jaxrl_moe.config.episodes import EpisodesSection
from jaxrl_moe.config.inputs import DataSection, EnvSection, LoraSection, ModelSection, ScratchSection
from jaxrl_moe.config.resolving import (
    ConfigError,
    numbered,
    refuse_unknown,
    resolve,
    split_items,
    split_names,
)
from jaxrl_moe.config.sampling import EndpointSection, RolloutSection, ServersSection
from jaxrl_moe.config.setting import Setting, listed, setting_of, shown
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
from jaxrl_moe.config.whole import SECTIONS, Config, base, known_fields, known_keys, to_json, value_of

__all__ = [
    "SECTIONS", "AlgorithmSection", "CheckpointSection", "Config", "ConfigError", "CriticSection",
    "DataSection", "EndpointSection", "EnvSection", "EpisodesSection", "EvalSection", "LoggingSection",
    "LoraSection", "MeshSection", "ModelSection", "MoeSection", "OptimizerSection", "RolloutMeshSection",
    "RolloutSection", "ScratchSection", "ServersSection", "Setting", "SftSection", "TrainSection", "base",
    "known_fields", "known_keys", "listed", "numbered", "refuse_unknown", "resolve", "setting_of", "shown",
    "split_items", "split_names", "to_json", "value_of"]
