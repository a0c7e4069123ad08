"""A setting's own account of itself: what it means, in what unit, and which values it may have."""
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxrl_moe.config.named import NamedError, named_values

_KEY = "setting"  # of a dataclass field's metadata
KINDS = ("", "text", "path", "files")


@dataclasses.dataclass(frozen=True)
class Setting:
    """The metadata of a field of a section.

    Attributes:
      meaning: a phrase, without a full stop at its end; `--help` prints it.
      unit: of a number, such as "tokens"; empty where it has none.
      at_least, above, at_most: bounds of a number; None: none on that side. `above` is not allowed itself.
      choices: the values of a string, each with its meaning (empty where the name says it). With a table:
        those beside its rows.
      table: where the (other) choices stand: the name of a table in a room above, such as
        "learning.replay.REPLAY" for jaxrl_moe.learning.replay.REPLAY. The rooms that may import it look it
        up.
      brackets: whether a row's own settings may follow its name, as in grpo(eps=1e-4).
      kind: "text" says that a string is free, "path" that it names a file or folder (or a hub name), whose
        `~` is expanded, "files" that it names several, each under a name, as config.named reads them.
      verbatim: of texts, whether their white space belongs to them.
      by_name: whether a choice may also be given for each of several names, as in a=x,b=y.
    """
    meaning: str
    unit: str = ""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    choices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    table: str = ""
    brackets: bool = False
    kind: str = ""
    verbatim: bool = False
    by_name: bool = False

    def allows(self, number: float) -> bool:
        """Whether a number lies within the bounds; NaN never does."""
        low = self.above is None or number > self.above
        low = low and (self.at_least is None or number >= self.at_least)
        return bool(low and number == number and (self.at_most is None or number <= self.at_most))

    def bounds(self) -> str:
        """The bounds in words, such as "at least 1"; empty where there are none."""
        if self.at_most is None:
            return self._lowest()
        if self.above is not None:
            return f"more than {self.above:.15g} and at most {self.at_most:.15g}"
        return f"between {self.at_least:.15g} and {self.at_most:.15g}"

    def _lowest(self) -> str:
        if self.above is not None:
            return f"more than {self.above:.15g}"
        return "" if self.at_least is None else f"at least {self.at_least:.15g}"

    def chosen(self, value: str) -> bool:
        """Whether a string is among the literal choices, where these are all that there are."""
        if not self.choices or self.table or value in self.choices:
            return True
        try:
            return self.by_name and set(named_values(value).values()) <= self.choices.keys() - {""}
        except NamedError:
            return False


def setting(
        default: Any, meaning: str, *, choices: Mapping[str, str] | Iterable[str] = (), **rest: Any) -> Any:
    """A dataclass field with its default and a Setting of these attributes; choices may also be bare names.

    Raises:
      ValueError: a kind that is unknown, or an upper bound without a lower one.
    """
    named = choices if isinstance(choices, Mapping) else dict.fromkeys(choices, "")
    described = Setting(meaning, choices=named, **rest)
    if described.kind not in KINDS:
        raise ValueError(f"{described.kind!r} is no kind of setting: {KINDS}")
    if described.at_most is not None and described.at_least is None and described.above is None:
        raise ValueError(f"the setting {meaning!r} has an upper bound and no lower one")
    return dataclasses.field(default=default, metadata={_KEY: described})


def setting_of(field: dataclasses.Field) -> Setting:
    """The Setting of a section's field."""
    return field.metadata[_KEY]


def listed(names: Sequence[str], last: str = "or") -> str:
    """Names as prose: "a", "a or b", "a, b or c"."""
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def shown(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        bare = not any(isinstance(item, str) and re.search(r"[\s,]|^[(\[]", item) for item in value)
        return ",".join(map(shown, value)) if bare else repr(value)
    return re.sub(r"e-0", "e-", f"{value:g}") if isinstance(value, float) else str(value)
