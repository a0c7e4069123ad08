"""Finds the family of a model: by its name, or by what a config.json says."""
import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxrl_moe.distributed.parameters import declare
from jaxrl_moe.model import families as package

if TYPE_CHECKING:
    from jaxrl_moe.config import ScratchSection
    from jaxrl_moe.model.config import ModelConfig
    from jaxrl_moe.model.families.family import Family

_families: dict[str, "Family"] = {}


def register(family: "Family") -> "Family":
    """Adds a family, and the rows of its parameters.

    Raises:
      ValueError: another one has its name or reads one of its architectures.
    """
    for known in _families.values():
        common = {family.name, *family.architectures} & {known.name, *known.architectures}
        if common and type(known) is not type(family):
            raise ValueError(f"Two families of models are called, or read, {', '.join(sorted(common))}: "
                             f"{known} and {family}.")
    declare(family.parameters)
    _families[family.name] = family
    return family


def families() -> tuple["Family", ...]:
    """All of them."""
    _load()
    return tuple(_families.values())


def family_named(name: str) -> "Family":
    """The family of this name, which ModelConfig.family holds.

    Raises:
      KeyError: there is none.
    """
    _load()
    if name not in _families:
        raise KeyError(f"there is no family of models {name!r}: known are {', '.join(_families)}")
    return _families[name]


def family_of(config: "ModelConfig") -> "Family":
    """The family of a model."""
    return family_named(config.family)


def reading(hf: Mapping[str, Any]) -> "Family | None":
    """The family that reads this config.json; None if none does. One that was saved without a model names its
    type alone."""
    names = hf.get("architectures") or []
    if not names:
        return next((family for family in families() if family.name == hf.get("model_type")), None)
    return next((family for name in names for family in families() if name in family.architectures), None)


def architectures() -> list[str]:
    """What the families read, as config.json names it."""
    return [name for family in families() for name in family.architectures]


def from_scratch(section: "ScratchSection", vocab_size: int) -> "ModelConfig":
    """A model of the scratch section's sizes, of the first family that makes such.

    Raises:
      ValueError: none does.
    """
    made = (family.from_scratch(section, vocab_size) for family in families())
    config = next((config for config in made if config is not None), None)
    if config is None:
        raise ValueError("No family of models makes one of the scratch section's sizes.")
    return config


@functools.cache
def _load() -> None:
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        importlib.import_module(f"{package.__name__}.{module.name}")
