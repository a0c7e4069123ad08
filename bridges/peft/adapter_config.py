"""PEFT's adapter_config.json: every field of its LoraConfig (PEFT 0.21), and what of it this package takes.

A setting that would change what an adapter computes, and that we do not have, is refused, so that an adapter
means here what it means to PEFT or is not loaded at all.
"""
import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from bridges.errors import BridgeError
from bridges.hf.folders import read_json
from jaxrl_moe.outside import Fields, OutsideError, shown
from jaxrl_moe.paths import shortened
from jaxrl_moe.spelling import did_you_mean

CONFIG = "adapter_config.json"
LARGEST_ALPHA = 1e6
SHOWN = 80  # characters of a setting in a message
TASKS = ("CAUSAL_LM", "FEATURE_EXTRACTION")
# What A and B start from. None of these touches the base weights: B A begins as zero, or is what is trained.
STARTS = (True, False, "gaussian", "eva", "orthogonal", "mica")
# These subtract B A from the base weights at the start, or quantise them, so that the adapter belongs to
# weights that are not the base model's.
CHANGED_BASE = ("pissa", "pissa_niter_", "olora", "corda", "loftq", "lora_ga")
HONOURED = (
    "peft_type", "task_type", "r", "lora_alpha", "use_rslora", "lora_dropout", "init_lora_weights",
    "target_modules", "exclude_modules", "target_parameters", "modules_to_save", "layers_to_transform",
    "layers_pattern", "rank_pattern", "alpha_pattern")
# These say where the adapter came from, or how it was made: they change nothing of what it computes.
WITHOUT_EFFECT = (
    "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode", "megatron_core",
    "loftq_config", "eva_config", "corda_config", "lora_ga_config", "velora_config", "runtime_config",
    "qalora_group_size", "ensure_weight_tying")
# These change what it computes, unless they have this value, or are null or empty.
OFF: Mapping[str, Any] = {
    "bias": "none", "fan_in_fan_out": False, "use_dora": False, "use_qalora": False, "lora_bias": False,
    "layer_replication": None, "alora_invocation_tokens": None, "trainable_token_indices": None,
    "megatron_config": None, "arrow_config": None, "use_bdlora": None, "monteclora_config": None,
    "kasa_config": None}
KNOWN = (*HONOURED, *WITHOUT_EFFECT, *OFF)
NAMES = ("target_modules", "exclude_modules", "layers_pattern")


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """What an adapter_config.json says, in PEFT's words; a str among `target_modules`, `exclude_modules` and
    `layers_pattern` is a regular expression, a tuple holds names (of layers_pattern, expressions)."""
    path: pathlib.Path
    r: int
    lora_alpha: float
    use_rslora: bool
    lora_dropout: float
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]
    target_modules: str | tuple[str, ...] | None
    exclude_modules: str | tuple[str, ...] | None
    layers_pattern: str | tuple[str, ...] | None
    layers_to_transform: tuple[int, ...] | None
    target_parameters: tuple[str, ...]
    modules_to_save: tuple[str, ...]


def read_adapter_config(path: pathlib.Path) -> AdapterConfig:
    """Reads the file.

    Raises:
      BridgeError: it is no JSON object, a field has a value of the wrong type or out of bounds, or asks for
        what this package does not have.
    """
    fields = Fields(read_json(path), str(path))
    try:
        kind = fields.string("peft_type")
        if kind != "LORA":
            raise BridgeError(f"{path} describes a {shown(kind)} adapter; only LORA is read.")
        _check_others(fields)
        _check_start(fields)
        return _taken(path, fields)
    except OutsideError as error:
        raise BridgeError(f"{error} Copy the whole adapter folder again.") from error


def _taken(path: pathlib.Path, fields: Fields) -> AdapterConfig:
    fields.string("task_type", None, choices=TASKS)
    names = {name: _names(fields, name) for name in NAMES}
    if names["target_modules"] is None and "target_parameters" not in fields:
        raise BridgeError(f"{path} names no target_modules, and what PEFT takes then depends on its version "
                          "and on the base model. Name the layers that were adapted, such as "
                          '["q_proj", "v_proj"].')
    layers = fields.values.get("layers_to_transform")
    layers = [layers] if type(layers) is int else layers
    layers = Fields({"layers_to_transform": layers}, str(path)).integers("layers_to_transform", None)
    if isinstance(names["target_modules"], str) and layers is not None:
        raise BridgeError(f"{path}: layers_to_transform has no effect where target_modules is a regular "
                          "expression, and PEFT refuses the two together. Leave one out.")
    if names["layers_pattern"] and layers is None:
        raise BridgeError(f"{path}: layers_pattern has no effect without layers_to_transform. Leave it out.")
    ranks = fields.object("rank_pattern", None) or Fields({}, "")
    alphas = fields.object("alpha_pattern", None) or Fields({}, "")
    return AdapterConfig(
        path=path, r=fields.integer("r", least=1), lora_alpha=_alpha(fields, "lora_alpha"),
        use_rslora=fields.boolean("use_rslora", False), lora_dropout=_dropout(fields),
        rank_pattern={name: ranks.integer(name, least=1) for name in ranks.values},
        alpha_pattern={name: _alpha(alphas, name) for name in alphas.values},
        layers_to_transform=None if not layers else tuple(layers),
        target_parameters=tuple(fields.strings("target_parameters", ())),
        modules_to_save=tuple(fields.strings("modules_to_save", ())), **names)


def _alpha(fields: Fields, name: str) -> float:
    return fields.number(name, least=-LARGEST_ALPHA, most=LARGEST_ALPHA)


def _dropout(fields: Fields) -> float:
    dropout = fields.number("lora_dropout", 0.0, least=0.0, most=1.0)
    if dropout == 1.0:
        raise BridgeError(f"{fields.where}: lora_dropout is 1, which drops all that the adapter sees. Give "
                          "less than 1.")
    return dropout


def _names(fields: Fields, name: str) -> str | tuple[str, ...] | None:
    """A regular expression, or names."""
    if isinstance(fields.values.get(name), str):
        return fields.string(name)
    names = fields.strings(name, None)
    return None if names is None else tuple(names)


def _check_others(fields: Fields) -> None:
    """Refuses what is unknown, and what would change what the adapter computes."""
    path = fields.where
    used = []
    for name, value in fields.values.items():
        if name in OFF:
            off = OFF[name]
            if type(off) is bool:
                fields.boolean(name, False)
            if value != off and value not in (None, [], {}):
                used.append(f"{name}={value!r}"[:SHOWN])
        elif name not in KNOWN and value not in (None, False, "", [], {}):
            raise BridgeError(f"{path}: the field {shortened(name)} ({shown(value)}) is no field of "
                              "PEFT's LoraConfig that is known here, and may change what the adapter "
                              f"computes.{did_you_mean(name, KNOWN)} Merge the adapter with PEFT, or leave "
                              "it out.")
    if used:
        raise BridgeError(f"{path} sets {', '.join(used)}, which this package does not have. Train the "
                          "adapter without, or merge it with PEFT.")


def _check_start(fields: Fields) -> None:
    start = fields.values.get("init_lora_weights")
    if start is None or type(start) is bool:
        return
    name = fields.string("init_lora_weights").lower()
    if name in STARTS:
        return
    if any(re.fullmatch(rf"{kind}\d*" if kind.endswith("_") else kind, name) for kind in CHANGED_BASE):
        raise BridgeError(f"{fields.where}: init_lora_weights is {start!r}, which changes the base weights "
                          "as training begins, and the adapter belongs to the changed ones. Convert it with "
                          "PEFT: model.save_pretrained(folder, path_initial_model_for_weight_conversion=...) "
                          "writes a plain adapter of twice the rank; or merge it with PEFT.")
    known = (*(start for start in STARTS if isinstance(start, str)), *CHANGED_BASE)
    raise BridgeError(f"{fields.where}: init_lora_weights is {start!r}, which is not known here."
                      f"{did_you_mean(name, known)} What an adapter starts from may change the base weights: "
                      "merge it with PEFT.")
