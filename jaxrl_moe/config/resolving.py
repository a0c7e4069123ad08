"""From a recipe's ConfigDict to a checked Config, with everything that is wrong told together."""
import ast
import dataclasses
import math
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import ml_collections

from jaxrl_moe import paths, spelling
from jaxrl_moe.config.named import NamedError, check_files
from jaxrl_moe.config.setting import Setting, listed, setting_of
from jaxrl_moe.config.whole import Config, is_known, known_fields, nearest, value_of
from jaxrl_moe.types import Problem, UserError

_TOO_LARGE = 2**63  # for any array's size or integer


class ConfigError(UserError):
    """Settings that cannot work; the message names each field, its value and the fix.

    Attributes:
      problems: what is wrong, one or more: Problem records, or sentences.
    """

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = problems
        super().__init__(str(problems[0]) if len(problems) == 1 else numbered(problems))


class UnknownSetting(Problem):
    """A key that is no setting; `mend` is a whole sentence."""

    def __str__(self) -> str:
        return f"There is no setting {spelling.cut(repr(self.field))}. {self.mend}"


def numbered(problems: tuple[Problem | str, ...]) -> str:
    """Several problems as a numbered list, one a line."""
    lines = [f"{number}. {problem}" for number, problem in enumerate(problems, 1)]
    return "\n".join([f"{len(problems)} things stand in the way:", *lines])


def resolve(settings: ml_collections.ConfigDict | Mapping[str, Any]) -> Config:
    """Turns a ConfigDict (or nested dict) into a Config; checks what needs no model, data or table of names.

    Raises:
      ConfigError: with all unknown keys, wrong types, values out of range and unknown choices. What
        contradicts what, the checks say.
    """
    settings = settings.to_dict() if hasattr(settings, "to_dict") else dict(settings)
    problems: list[Problem | str] = []
    config = _build(Config, settings, "", problems)
    problems += value_problems(config)
    if problems:
        raise ConfigError(*problems)
    return config


def value_problems(config: Config) -> Iterator[Problem]:
    """Yields the values that their settings' bounds or literal choices do not allow."""
    for key, field in known_fields().items():
        value = value_of(config, key)
        setting = setting_of(field)
        if not _finite(value):
            yield Problem(key, value, "is not finite", f"it must be {setting.bounds() or 'a finite number'}")
        elif field.type is int and value >= _TOO_LARGE:
            yield Problem(key, value, "is out of range", "it must be below 2^63")
        elif field.type == tuple[int, ...] and not all(map(setting.allows, value)):
            yield Problem(key, value, "is out of range", f"each number must be {setting.bounds()}")
        elif field.type in (int, float) and not setting.allows(value):
            yield Problem(key, value, "is out of range", f"it must be {setting.bounds()}")
        elif field.type is str and not setting.chosen(value):
            yield Problem(key, value, "is not known", _choose(value, setting))
        elif setting.kind == "path" and paths.unusable(value):
            yield Problem(key, value, paths.unusable(value), "give another path, such as an absolute one")
        elif setting.kind == "files":
            yield from _files_problems(key, value)


def _files_problems(key: str, text: str) -> Iterator[Problem]:
    try:
        check_files(text)
    except NamedError as error:
        yield Problem(key, text, error.why, error.mend)


def _finite(value: Any) -> bool:
    """Whether a number, or all of a tuple's, is finite; what is none counts as finite."""
    if isinstance(value, tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _choose(value: str, setting: Setting) -> str:
    """What there is to choose from, and what was most likely meant."""
    close = spelling.nearest(value, filter(None, setting.choices))
    meant = f"; {close!r} is the nearest" if close else ""
    names = [f"{name} ({meaning})" if meaning else name for name, meaning in setting.choices.items() if name]
    names += ["name=choice for each name of data.files"] if setting.by_name else []
    empty = [f"leave it empty ({setting.choices['']})"] if "" in setting.choices else []
    return f"use {listed([*names, *empty])}{meant}"


def refuse_unknown(*keys: str) -> None:
    """Raises ConfigError if some of the dotted keys are neither settings nor sections."""
    unknown = [UnknownSetting(key, None, "is no setting", nearest(key)) for key in keys if not is_known(key)]
    if unknown:
        raise ConfigError(*unknown)


def _build(kind: type, values: Mapping[str, Any], prefix: str, problems: list[Problem | str]) -> Any:
    """A section, or the Config, of these values; what cannot be read keeps its default and joins problems."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    read = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in fields:
            problems.append(UnknownSetting(key, value, "is no setting", nearest(key)))
        elif not dataclasses.is_dataclass(fields[name].type):
            _read(fields[name], key, value, read, problems)
        elif isinstance(value, Mapping):
            read[name] = _build(fields[name].type, value, key + ".", problems)
        else:
            inner = dataclasses.fields(fields[name].type)[0].name
            problems.append(Problem(key, value, "is no section", f"set its settings, such as {key}.{inner}"))
    return kind(**read)


def _read(field: dataclasses.Field, key: str, value: Any, read: dict[str, Any],
          problems: list[Problem | str]) -> None:
    """Puts a setting's value into `read`, or what is wrong with it into `problems`."""
    try:
        read[field.name] = _convert(field, value, key)
    except ConfigError as error:
        problems += error.problems


def _convert(field: dataclasses.Field, value: Any, key: str) -> Any:
    kind = field.type
    if isinstance(kind, types.GenericAlias):  # tuples of str, int or float are the only containers here
        return _convert_items(field, split_items(field, value) if isinstance(value, str) else value, key)
    if kind is float and type(value) in (int, float):
        return _float(value)
    if type(value) is not kind:
        why = f"is of type {type(value).__name__}; it must be a {kind.__name__}"
        raise ConfigError(Problem(key, value, why, f"give one, such as the default {field.default!r}"))
    return value


def _float(value: float) -> float:
    """A number as a float that is never -0; an integer beyond all floats as infinity, which is refused."""
    try:
        return float(value) + 0.0
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _item(kind: type, value: Any) -> Any:
    """An item of a tuple: a text as it is, a number or, as command lines have it, the text of one."""
    if kind is int and type(value) is str:
        value = int(value)
    if kind is float and type(value) in (int, float, str):
        return _float(float(value) if isinstance(value, str) else value)
    if type(value) is not kind or kind is str and not value:
        raise TypeError(f"{value!r} is no {kind.__name__}, or empty")
    return value


def _convert_items(field: dataclasses.Field, values: Any, key: str) -> tuple:
    kind = field.type.__args__[0]
    mend = f"give values of type {kind.__name__} with commas between"
    if isinstance(values, (list, tuple)) and "" in values:
        raise ConfigError(Problem(key, values, "holds an empty text",
                                  "leave it out; write one that holds a comma as ('a, b',)"))
    try:
        if not isinstance(values, list | tuple):
            raise TypeError(f"{type(values).__name__} is no list")
        return tuple(_item(kind, value) for value in values)
    except (TypeError, ValueError) as error:
        raise ConfigError(Problem(key, values, "cannot be read", mend)) from error


def split_items(field: dataclasses.Field, text: str) -> tuple:
    """The items of a tuple's setting that is written as one text: those of a Python tuple or list, as in
    ('a, b', '\\n\\n'), or what stands between commas, as in q_proj,v_proj."""
    literal = _literal(text)
    if isinstance(literal, (list, tuple)) and _all(literal, *(
            [str] if field.type.__args__[0] is str else [str, int, float])):
        return tuple(literal)
    if not setting_of(field).verbatim:
        return split_names(text)
    return tuple(text.split(",")) if text else ()


def _literal(text: str) -> Any:
    """The Python tuple or list that a text spells; None for "(a|b)", "[/INST]" and whatever else is none."""
    if not text.startswith(("(", "[")):
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return (value,) if isinstance(value, str) else value


def _all(values: Iterable[Any], *kinds: type) -> bool:
    return all(type(value) in kinds for value in values)


def split_names(text: str) -> tuple[str, ...]:
    """Splits "q_proj,v_proj" at the commas outside brackets, so that regular expressions stay whole."""
    names = [""]
    depth = 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth <= 0:
            names.append("")
        else:
            names[-1] += letter
    return tuple(name.strip() for name in names) if text else ()
