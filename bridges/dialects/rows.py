"""A row of a dialect's table: a foreign key, what it becomes here, and why."""
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from bridges.dialects.kinds import Invalid, Kind

ABSENT: Any = object()


@dataclasses.dataclass(frozen=True)
class Without:
    """What an effect returns for a value that changes nothing here: the reason."""
    why: str


@dataclasses.dataclass(frozen=True)
class Noted:
    """A setting's value with a comment of its own, in place of the row's."""
    value: Any
    why: str


class Inputs:
    """What somebody gave in a dialect, with the dialect's own defaults for the rest.

    Args:
      values: by dotted key, checked.
      defaults: of keys that are not among them.
    """

    def __init__(self, values: Mapping[str, Any], defaults: Mapping[str, Any]):
        self._values = values
        self._defaults = defaults

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        """The value; the dialect's default where it was not given, None where there is none."""
        return self._values.get(key, self._defaults.get(key))

    def under(self, prefix: str) -> list[tuple[str, Any]]:
        """What was given of keys that begin so, by the rest of their names."""
        return [(key.removeprefix(prefix), value) for key, value in self._values.items()
                if key.startswith(prefix)]


# Raises kinds.Invalid. A Problem in place of a setting's value says that somebody has to give it.
Effect = Callable[[Any, Inputs], Mapping[str, Any] | Without]


def as_in_training(key: str, shown: str, mend: str) -> Effect:
    """The effect of a setting of evaluations, which draw as the training does but for their temperature.

    Args:
      key: the training's own; its value must be the same.
      shown, mend: as the message has it, and says what to do.
    """
    def effect(value: Any, given: Inputs) -> Without:
        if value != given[key]:
            raise Invalid(f"is another value than {shown} = {given[key]}, and evaluations draw as the "
                          "training does", mend)
        return Without("evaluations draw as the training does")
    return effect


@dataclasses.dataclass(frozen=True)
class Key:
    """What becomes of a foreign key.

    Attributes:
      kind: what its value may be.
      effect: our setting that takes the value as it is, or a function of the value and of all that was given
        that returns settings; None: it has no meaning here, or another key's row reads it.
      why: the comment beside the setting; without an effect, the reason.
      default: the dialect's own, which is translated where the key is not given.
      read_by: the key whose row reads it.
      secret: whether its value may stand nowhere.
    """
    kind: Kind
    effect: str | Effect | None
    why: str
    default: Any = ABSENT
    read_by: str = ""
    secret: bool = False

    def settings(self, value: Any, given: Inputs) -> Mapping[str, Any] | Without:
        """What it becomes. Raises Invalid."""
        if self.effect is None:
            return Without(self.why)
        if isinstance(self.effect, str):
            return {self.effect: value}
        return self.effect(value, given)


Table = Mapping[str, Key]


def unused(kind: Kind, why: str) -> Key:
    """A key without meaning here, and the reason."""
    return Key(kind, None, why)


def beside(kind: Kind, key: str, why: str, default: Any = ABSENT) -> Key:
    """A key that the row of another one reads."""
    return Key(kind, None, why, default, read_by=key)
