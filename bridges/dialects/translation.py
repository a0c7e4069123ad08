"""What a foreign configuration comes to here: settings with their origin, and what has no meaning."""
import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxrl_moe import config as config_lib
from jaxrl_moe.config import ConfigError
from jaxrl_moe.types import Problem


@dataclasses.dataclass(frozen=True)
class Assigned:
    """One of our settings.

    Attributes:
      key: dotted.
      value: as base() takes it.
      origin: the foreign keys that it comes from, such as "training.learning_rate = 3e-05".
      why: what is to be known about it; may be empty.
    """
    key: str
    value: Any
    origin: str
    why: str


@dataclasses.dataclass(frozen=True)
class Unused:
    """A foreign key that was given and changes nothing here, with its value as text and the reason."""
    key: str
    value: str
    why: str


@dataclasses.dataclass(frozen=True)
class Translation:
    """What a foreign configuration comes to.

    Attributes:
      dialect: its name.
      source: where it came from, for messages.
      assigned: our settings, in the order of our sections.
      unused: what was given without meaning here.
      missing: settings that nothing of it tells and a run needs, by key; whoever starts one gives them by
        --config.KEY=VALUE.
    """
    dialect: str
    source: str
    assigned: tuple[Assigned, ...]
    unused: tuple[Unused, ...] = ()
    missing: Mapping[str, Problem] = dataclasses.field(default_factory=dict)

    def settings(self) -> ConfigDict:
        """base() with the settings."""
        config = config_lib.base()
        fields = config_lib.known_fields()
        config_lib.refuse_unknown(*(each.key for each in self.assigned))
        try:
            for each in self.assigned:
                config.update_from_flattened_dict({each.key: _fitting(fields[each.key], each.value)})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.source}: {each.origin} does not fit {each.key}: {error}.") from error
        return config

    def values(self) -> dict[str, Any]:
        """{our setting: value}."""
        return {each.key: each.value for each in self.assigned}


def _fitting(field: dataclasses.Field, value: Any) -> Any:
    """The value; a text as the items of a setting that is a tuple."""
    is_tuple = not isinstance(field.type, type)
    return config_lib.split_items(field, value) if is_tuple and isinstance(value, str) else value
