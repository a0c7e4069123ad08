"""Rows of the algorithm tables: a function and its typed default settings, found by name."""
import ast
import dataclasses
import math
import sys
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.spelling import did_you_mean
from jaxrl_moe.types import UserError


class AlgorithmError(UserError):
    """An unknown algorithm or setting, or a combination that cannot be right; the message says why."""


@dataclasses.dataclass(frozen=True)
class NoSettings:
    """Of a row that has nothing to set."""


def lookup(table: Mapping[str, Any], name: str, kind: str) -> Any:
    """Returns table[name].

    Raises:
      AlgorithmError: there is no such row; the message names the nearest one.
    """
    if name in table:
        return table[name]
    raise AlgorithmError(f"There is no {kind} named {name!r}.{did_you_mean(name, table)} Known: "
                         f"{', '.join(sorted(table))}.")


def configure(default: Any, overrides: Mapping[str, Any], owner: str) -> Any:
    """Returns the settings dataclass `default` with the named fields replaced.

    Raises:
      AlgorithmError: `owner` has no such setting, or the value is not of its kind.
    """
    fields = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    for name, value in overrides.items():
        if name not in fields:
            known = ", ".join(sorted(fields)) or "none"
            raise AlgorithmError(f"{owner!r} has no setting {name!r}.{did_you_mean(name, fields)} "
                                 f"Its settings: {known}.")
        kind = type(fields[name])
        whole = kind is float and type(value) is int and abs(value) <= sys.float_info.max
        if type(value) is not kind and not whole:
            raise AlgorithmError(f"{owner!r}: setting {name!r} must be like {fields[name]!r}, got {value!r}.")
        if kind is float and not math.isfinite(value):
            raise AlgorithmError(f"{owner!r}: setting {name!r} must be finite, got {value!r}.")
    return dataclasses.replace(default, **overrides)


def check_takes(table: Mapping[str, Any], given: type) -> None:
    """Refuses a table whose rows take what is not there; to be called where the table is made.

    Args:
      table: rows whose `takes` maps a field of `given` to the setting that it fills, and whose `settings`
        hold that.
      given: the dataclass of what any row may take.

    Raises:
      AlgorithmError: `given` or the row's settings have no such field.
    """
    known = {field.name for field in dataclasses.fields(given)}
    for name, row in table.items():
        own = {field.name for field in dataclasses.fields(row.settings)}
        wrong = [f"{given.__name__}.{source}" for source in row.takes if source not in known]
        kind = type(row.settings).__name__
        wrong += [f"{kind}.{setting}" for setting in row.takes.values() if setting not in own]
        if wrong:
            raise AlgorithmError(f"Row {name!r} takes {' and '.join(wrong)}, and there is no such field.")


def require(settings: Any, **bounds: tuple[bool, str]) -> None:
    """Raises AlgorithmError for the first named field of a settings dataclass whose (is it right?, what it
    must be) is wrong."""
    for name, (right, needed) in bounds.items():
        if not right:
            raise AlgorithmError(f"Setting {name} = {getattr(settings, name)} must be {needed}.")


def parse_spec(text: str) -> tuple[str, dict[str, Any]]:
    """Reads a row's name with settings in brackets: "icepop(low=0.5, high=4)" gives ("icepop", {"low": 0.5,
    "high": 4}).

    Raises:
      AlgorithmError: it is not a name, or a name with name=value pairs in brackets.
    """
    cut = text if len(text) <= 200 else text[:197] + "..."
    problem = AlgorithmError(f"{cut!r} cannot be read: write a name, such as tis, or a name with settings "
                             "in brackets, such as icepop(low=0.5,high=4).")
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
            raise problem
        settings = {keyword.arg: _value(keyword.value) for keyword in node.keywords}
        if None in settings or len(settings) < len(node.keywords):  # given as a mapping, or twice
            raise problem
        return node.func.id, settings
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:  # the last two: nested
        raise problem from error


def _value(node: ast.expr) -> Any:
    """A literal of Python, or true and false as they are written elsewhere on the command line."""
    if isinstance(node, ast.Name) and node.id in ("true", "false"):
        return node.id == "true"
    return ast.literal_eval(node)
