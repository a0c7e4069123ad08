"""Finds the family of a model: by its name, or by what a config.json says."""
import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING

from jaxrl_moe.distributed.parameters import declare
from jaxrl_moe.model import families as package
from jaxrl_moe.outside import Fields, OutsideError
from jaxrl_moe.paths import shortened

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


def reading(fields: Fields) -> "ModelConfig":
    """The model that a config.json describes, read by the family that knows its architecture. One that was
    saved without a model names its type alone.

    Raises:
      OutsideError: no family reads it, two names contradict each other, or the family cannot honour it.
    """
    names = fields.strings("architectures", [])
    kind = fields.string("model_type", None)
    read = ((family, family.architectures if names else (family.name,)) for family in families())
    family = next((family for family, known in read if set(known) & set(names or [kind])), None)
    listed = shortened(", ".join(names))
    shown = shortened(str(kind))
    if family is None:
        named = f"the architecture {listed}" if names else f"no architecture, and the type {shown}"
        raise OutsideError(f"{fields.where} names {named}; supported are {', '.join(architectures())}.")
    if kind not in (None, family.name):
        raise OutsideError(f"{fields.where}: model_type is {shown}, and the architecture {listed} "
                           f"is of the type {family.name!r}. Correct one of them.")
    return family.from_hf(fields)


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
