"""A dialect's table applied to what somebody gave: all that is wrong is told together."""
from collections.abc import Iterable, Mapping
from typing import Any

from bridges.dialects.kinds import TABLE, Invalid
from bridges.dialects.rows import ABSENT, Inputs, Key, Noted, Table, Without
from bridges.dialects.translation import Assigned, Translation, Unused
from jaxrl_moe.config import ConfigError, known_keys
from jaxrl_moe.spelling import cut, did_you_mean, escaped
from jaxrl_moe.types import Problem

_MOST_SHOWN = 60  # characters of a foreign value in a comment
_WORDS = {True: "true", False: "false", None: "null"}


class UnknownKey(Problem):
    """A key that the dialect's table does not have; `mend` is a whole sentence, or empty."""

    def __str__(self) -> str:
        return f"{self.why}.{self.mend}"


def translate(dialect: str, source: str, table: Table, values: Mapping[str, Any],
              spelt: Mapping[str, str] | None = None) -> Translation:
    """Translates flat foreign values.

    Args:
      dialect: its name.
      source: the file, or the command line, which messages name.
      table: the dialect's rows by dotted key.
      values: by dotted key.
      spelt: how somebody wrote a key, where that is another way.

    Raises:
      ConfigError: with all unknown keys, wrong values and contradictions; source and key are named.
    """
    work = _Work(source, table, spelt or {})
    given = work.checked(values)
    work.apply(given)
    if work.problems:
        raise ConfigError(*work.problems)
    return Translation(dialect, source, work.in_order(), tuple(work.unused), work.missing)


class _Work:
    """A translation while it is made."""

    def __init__(self, source: str, table: Table, spelt: Mapping[str, str]):
        self._source = source
        self._table = table
        self._spelt = spelt
        self._assigned: dict[str, Assigned] = {}
        self._by_default: set[str] = set()
        self.unused: list[Unused] = []
        self.problems: list[Problem] = []
        self.missing: dict[str, Problem] = {}

    def checked(self, values: Mapping[str, Any]) -> Inputs:
        """The values, each of its row's kind."""
        read = {}
        for key, value in values.items():
            row = self._table.get(key)
            if row is None:
                self.problems.append(self._unknown(key))
                continue
            try:
                read[key] = row.kind.check(value)
            except Invalid as refused:
                self._refuse(key, value, refused)
        defaults = {key: row.default for key, row in self._table.items() if row.default is not ABSENT}
        return Inputs(read, defaults)

    def apply(self, given: Inputs) -> None:
        """Every row that was given, or that has a default."""
        broken = {problem.field for problem in self.problems}
        for key, row in self._table.items():
            if (key in given or row.default is not ABSENT) and self._where(key) not in broken:
                self._apply(key, row, given)

    def _apply(self, key: str, row: Key, given: Inputs) -> None:
        value = given[key]
        if row.read_by:
            self._check_read(key, row.read_by, given)
            return
        try:
            made = row.settings(value, given)
        except Invalid as refused:
            self._refuse(key, value if key in given else None, refused)
            return
        if isinstance(made, Without):
            if key in given:
                self.unused.append(Unused(self._named(key), self._shown(row, value), made.why))
            return
        for setting, wanted in made.items():
            if isinstance(wanted, Problem):
                self.missing[setting] = wanted
            else:
                self._assign(key, row, given, setting, wanted)

    def _check_read(self, key: str, reader: str, given: Inputs) -> None:
        if key in given and reader not in given and self._table[reader].default is ABSENT:
            self.problems.append(Problem(self._where(key), given[key], f"has no effect without {reader}",
                                         f"give {reader}, or leave it out"))

    def _assign(self, key: str, row: Key, given: Inputs, setting: str, wanted: Any) -> None:
        explicit = key in given
        why = wanted.why if isinstance(wanted, Noted) else row.why
        wanted = wanted.value if isinstance(wanted, Noted) else wanted
        old = self._assigned.get(setting)
        if old is not None and setting not in self._by_default and explicit and old.value != wanted:
            self.problems.append(Problem(self._where(key), given[key], f"asks for {setting} = {wanted!r}, "
                                 f"and {old.origin} for {old.value!r}", "leave one of them out"))
            return
        if old is not None and not explicit:
            return
        (self._by_default.discard if explicit else self._by_default.add)(setting)
        self._assigned[setting] = Assigned(setting, wanted, self._origin(key, row, given), why)

    def _origin(self, key: str, row: Key, given: Inputs) -> str:
        """The key with its value, and those that its row reads beside it."""
        first = f"{self._named(key)} = {self._shown(row, given[key])}" + ", its default" * (key not in given)
        others = [f"{self._named(other)} = "
                  f"{self._shown(each, given[other])}" for other, each in self._table.items()
                  if each.read_by == key and other in given]
        return ", ".join([first, *others])

    def in_order(self) -> tuple[Assigned, ...]:
        """What was assigned, as our own settings follow each other; those that there are not come last."""
        places = {key: place for place, key in enumerate(known_keys())}
        return tuple(sorted(self._assigned.values(), key=lambda each: places.get(each.key, len(places))))

    def _named(self, key: str) -> str:
        return self._spelt.get(key, key)

    def _where(self, key: str) -> str:
        return f"{self._source}: {self._named(key)}"

    def _shown(self, row: Key, value: Any) -> str:
        if row.secret:
            return "(not shown)"
        if row.kind is TABLE or isinstance(value, dict):
            return "{...}" if value else "{}"
        items = value if isinstance(value, list | tuple) else [value]
        return cut(escaped(",".join(map(_plain, items))), _MOST_SHOWN)

    def _refuse(self, key: str, value: Any, refused: Invalid) -> None:
        row = self._table[key]
        shown = None if row.secret else value
        self.problems.append(Problem(self._where(key), shown, refused.why, refused.mend))

    def _unknown(self, key: str) -> UnknownKey:
        near = _nearest(key, self._table)
        what = f"{self._source}: there is no key {cut(escaped(self._named(key)))!r}"
        return UnknownKey(self._where(key), None, what, near or _beside(key, self._table))


def _plain(value: Any) -> str:
    """A value as YAML and TOML have it."""
    return _WORDS[value] if value is None or type(value) is bool else str(value)


def _nearest(key: str, table: Iterable[str]) -> str:
    """The known key that was most likely meant: by its last name in its own section, then by the whole."""
    section, _, name = key.rpartition(".")
    inner = {other.rpartition(".")[2]: other for other in table if other.rpartition(".")[0] == section}
    near = did_you_mean(name, inner, prefix=f"{section}." if section else "")
    alike = [other for other in table if other.rpartition(".")[2] == name]
    return near or (f" Did you mean {alike[0]!r}?" if alike else did_you_mean(key, table))


def _beside(key: str, table: Iterable[str]) -> str:
    section = key.rpartition(".")[0]
    names = [other.removeprefix(section + ".") for other in table if other.startswith(section + ".")]
    return f" Those of {section} are {cut(', '.join(names))}." if section and names else ""


def flattened(values: Mapping[str, Any], table: Table, prefix: str = "") -> dict[str, Any]:
    """Nested sections as {dotted key: value}; what stands under a row of kind TABLE stays together."""
    flat = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        whole = key in table
        if isinstance(value, Mapping) and not whole and value:
            flat |= flattened(value, table, f"{key}.")
        elif isinstance(value, Mapping) and not whole and any(other.startswith(key + ".") for other in table):
            continue  # an empty section
        else:
            flat[key] = value
    return flat


def without_aliases(values: Mapping[str, Any], aliases: Mapping[str, str],
                    source: str) -> tuple[dict[str, Any], dict[str, str]]:
    """(the values under the table's own keys, how somebody spelt them).

    Raises:
      ConfigError: a key is given under two names with different values.
    """
    renamed: dict[str, Any] = {}
    spelt: dict[str, str] = {}
    for key, value in values.items():
        own = aliases.get(key, key)
        if own in renamed and renamed[own] != value:
            raise ConfigError(Problem(f"{source}: {key}", value, f"says again what {spelt[own]} = "
                              f"{renamed[own]!r} says", "leave one of them out"))
        renamed[own] = value
        spelt[own] = key
    return renamed, spelt
