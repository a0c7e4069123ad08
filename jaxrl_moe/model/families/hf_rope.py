"""Rotary embeddings as config.json spells them: `rope_parameters` (transformers 5), or `rope_theta` with
`rope_scaling` (transformers 4)."""
import dataclasses
from typing import Any

from jaxrl_moe.model.config import ModelConfigError, RopeConfig
from jaxrl_moe.outside import REQUIRED, Fields

THETA = 10000.0
CONTEXT = 32768  # of a config.json that names no max_position_embeddings
_YARN = tuple(field.name for field in dataclasses.fields(RopeConfig)[2:])
# What each kind reads beside theta.
SETTINGS = {"default": (), "linear": ("factor",), "dynamic": ("factor",), "yarn": _YARN}


def rope_from_hf(fields: Fields) -> RopeConfig:
    """The rotary embeddings of a config.json.

    Raises:
      OutsideError: a kind or a setting that the model does not have, or that contradicts another.
    """
    spelt = [settings for key in ("rope_scaling", "rope_parameters")
             if (settings := fields.object(key, None)) and settings.values]
    ropes = [_read(fields, settings) for settings in spelt or [Fields({}, fields.where)]]
    if ropes[0] != ropes[-1]:
        raise ModelConfigError("rope_scaling and rope_parameters say different things, and readers differ in "
                               "which they follow; keep one of them.")
    return ropes[0]


def rope_to_hf(rope: RopeConfig) -> dict[str, Any]:
    """As transformers 5 spells it."""
    hf = {"rope_type": rope.type, "rope_theta": rope.theta}
    named = ((name, getattr(rope, name)) for name in SETTINGS[rope.type])
    return hf | {name: value for name, value in named if value is not None}


def _read(fields: Fields, settings: Fields) -> RopeConfig:
    longest = fields.integer("max_position_embeddings", CONTEXT, least=1)
    kind = _kind(settings)
    _refuse_idle(fields, settings, kind, longest)
    theta = _theta(fields, settings)
    if kind == "default":
        return RopeConfig(theta, original_max_position_embeddings=longest)
    trained = _trained(fields, settings, longest) if kind == "yarn" else longest
    factor = settings.number("factor", None if kind == "yarn" else REQUIRED, least=1.0, most=1e6)
    if factor is None and trained > longest:
        raise ModelConfigError(f"{settings.where} has no factor, and the model cannot have been stretched: "
                               f"original_max_position_embeddings {trained} exceeds "
                               f"max_position_embeddings {longest}.")
    factor = longest / trained if factor is None else factor
    more = _yarn(settings) if kind == "yarn" else {}
    return RopeConfig(theta, kind, factor, trained, **more)


def _kind(settings: Fields) -> str:
    kinds = {settings.string(key, None, choices=list(SETTINGS)) for key in ("rope_type", "type")} - {None}
    if len(kinds) > 1:
        raise ModelConfigError(f"{settings.where} has a rope_type and another type: {', '.join(kinds)}. Keep "
                               "one of them.")
    return kinds.pop() if kinds else "default"


def _refuse_idle(fields: Fields, settings: Fields, kind: str, longest: int) -> None:
    """Refuses settings that would have no effect, but for those that say what holds anyway."""
    neutral = {"factor": 1.0, "original_max_position_embeddings": longest}
    read = ("rope_type", "type", "rope_theta", "partial_rotary_factor", *SETTINGS[kind])
    for key, value in settings.values.items():
        holds_anyway = type(value) in (int, float) and neutral.get(key) == value
        if key not in read and value is not None and not holds_anyway:
            raise ModelConfigError(f"{settings.where}: {key} is not read by rotary embeddings of the kind "
                                   f"{kind!r}, which read {', '.join(read)}. Remove it, or correct "
                                   "rope_type.")
    for each in (fields, settings):
        if each.number("partial_rotary_factor", 1.0) != 1.0:
            raise ModelConfigError("partial_rotary_factor other than 1 is not used by this model family.")


def _theta(fields: Fields, settings: Fields) -> float:
    """It may stand beside the settings or among them."""
    outer = fields.number("rope_theta", None, above=1.0, most=1e15)
    inner = settings.number("rope_theta", outer, above=1.0, most=1e15)
    if outer not in (None, inner):
        raise ModelConfigError(f"rope_theta is {outer:g}, and {inner:g} in {settings.where}; make them "
                               "agree.")
    return THETA if inner is None else inner


def _trained(fields: Fields, settings: Fields, longest: int) -> int:
    """The context that the model was trained on before it was stretched. As in transformers, what stands
    beside the settings goes before what stands among them."""
    inner = settings.integer("original_max_position_embeddings", longest, least=1)
    return fields.integer("original_max_position_embeddings", inner, least=1)


def _yarn(settings: Fields) -> dict[str, Any]:
    read = {"attention_factor": settings.number("attention_factor", None, above=0.0, most=1e6),
            "beta_fast": settings.number("beta_fast", RopeConfig.beta_fast, least=1e-6, most=1e6),
            "beta_slow": settings.number("beta_slow", RopeConfig.beta_slow, least=1e-6, most=1e6),
            "mscale": settings.number("mscale", None, least=0.0, most=1e6),
            "mscale_all_dim": settings.number("mscale_all_dim", None, least=0.0, most=1e6),
            "truncate": settings.boolean("truncate", RopeConfig.truncate)}
    if read["beta_fast"] <= read["beta_slow"]:
        raise ModelConfigError(f"beta_fast {read['beta_fast']:g} must exceed beta_slow "
                               f"{read['beta_slow']:g}: channels that turn more often than the first are "
                               "left alone, those that turn less often than the second are interpolated.")
    return read
