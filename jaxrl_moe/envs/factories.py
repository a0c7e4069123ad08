"""What makes tasks: found by the name of a module and of what it holds, and its settings, checked by its
signature. Nothing here makes a task."""
import importlib
import importlib.util
import inspect
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jaxrl_moe.config import ConfigError
from jaxrl_moe.foreign_errors import crash
from jaxrl_moe.protocols import Task
from jaxrl_moe.spelling import did_you_mean

# A task's class, or a function that makes one: its parameters are the task's settings, each with a type and a
# default.
Factory = Callable[..., Task]


def imported(module: str, attribute: str) -> Factory:
    """Returns what a module holds under a name.

    Raises:
      ConfigError: there is no such module, importing it fails, or it holds nothing of that name that makes a
        task.
    """
    where = f"env.name = '{module}:{attribute}'"
    factory = getattr(_module(module, where), attribute, None)
    if not callable(factory) or (inspect.isclass(factory) and Task not in factory.__mro__):
        what = "no class or function" if not inspect.isclass(factory) else "a class, but no Task,"
        raise ConfigError(f"{where}: the module {module} has {what} {attribute!r} that makes a "
                          f"task.{did_you_mean(attribute, makers(sys.modules[module]))} See "
                          "docs/extending/task.md.")
    return factory


def _module(name: str, where: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        absent = error.name or ""
        if absent == name or name.startswith(absent + "."):
            raise ConfigError(f"{where} cannot be imported: {error}.{_nearest_module(name)} Install the "
                              "package, or put its folder on PYTHONPATH.") from error
        raise ConfigError(f"{where} cannot be imported, as {name} imports {absent!r}, which is not installed "
                          f"({crash(error)}): install it.") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{where} cannot be imported: {crash(error)}. Mend the module, so that python -c "
                          f"'import {name}' does nothing but define.") from error


def _nearest_module(name: str) -> str:
    """What there is beside the first part of a module's name that is not there."""
    parent: list[str] = []
    folders: Iterable[str] = sys.path
    for part in name.split("."):
        near = did_you_mean(part, sorted(_modules_in(folders)), prefix="".join(f"{each}." for each in parent))
        spec = _spec(".".join([*parent, part]))
        if spec is None:
            return near
        parent.append(part)
        folders = spec.submodule_search_locations or ()
    return ""


def _spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _modules_in(folders: Iterable[str]) -> set[str]:
    """Modules and packages in folders, those without an __init__.py too."""
    names: set[str] = set()
    for folder in filter(os.path.isdir, [folder or "." for folder in folders]):
        entries = os.scandir(folder)
        names |= {entry.name.removesuffix(".py") for entry in entries
                  if entry.is_dir() or entry.name.endswith(".py")}
    return set(filter(str.isidentifier, names))


def makers(module: types.ModuleType) -> list[str]:
    """What a module has that may make a task: classes of tasks and functions."""
    return [name for name, value in vars(module).items() if not name.startswith("_") and (
        Task in value.__mro__[1:] if inspect.isclass(value) else callable(value))]


def problems(name: str, factory: Factory, given: Mapping[str, Any]) -> Iterator[str]:
    """Yields what is wrong with the settings, as the signature of the task has them."""
    lacking = [_called(factory, method) for method in sorted(getattr(factory, "__abstractmethods__", ()))]
    if lacking:
        yield (f"the task lacks {' and '.join(lacking)}: define what a task is made of, see "
               "docs/extending/task.md.")
        return
    known = _parameters(factory)
    hints = _hints(factory) if given else {}
    others = _others(factory, hints)
    for setting, value in given.items():
        if setting not in known and others is not None:
            if not _fits(value, others):
                yield f"setting {setting} = {shown(value)} must be of type {_type_name(others)}."
        elif setting not in known:
            bare = " Its fields are settings if it is a @dataclasses.dataclass." * _is_bare(factory, setting)
            yield (f"the task {name!r} has no setting {setting!r}.{did_you_mean(setting, known)} "
                   f"Its settings: {', '.join(known) or 'none'}.{bare}")
        elif not _is_finite(value):
            yield f"setting {setting} = {shown(value)} must be finite: give a number below 1e308."
        elif not _fits(value, hints.get(setting, Any)):
            default = known[setting].default
            such = "" if default is inspect.Parameter.empty else f", such as the default {shown(default)}"
            yield f"setting {setting} = {shown(value)} must be of type {_type_name(hints[setting])}{such}."
    for setting, parameter in known.items():
        if parameter.default is parameter.empty and setting not in given:
            yield f"the task {name!r} needs the setting {setting!r}: write {name}({setting}=...)."


def defaults(factory: Factory) -> dict[str, Any]:
    """The settings that have a default, with it."""
    return {name: parameter.default for name, parameter in _parameters(factory).items()
            if parameter.default is not parameter.empty}


def shown(value: Any) -> str:
    """A value for a message, cut."""
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _called(factory: Factory, method: str) -> str:
    """A method as it is called."""
    _, *names = inspect.signature(getattr(factory, method)).parameters
    return f"{method}({', '.join(names)})"


def _is_bare(factory: Factory, setting: str) -> bool:
    """Whether it is a class that has such a field, and is no dataclass."""
    return (inspect.isclass(factory) and "__dataclass_fields__" not in vars(factory)
            and setting in inspect.get_annotations(factory))


def _parameters(factory: Factory) -> dict[str, inspect.Parameter]:
    """The named parameters; what a task takes beyond these has no name that could be checked, see
    _others."""
    unnamed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD,
               inspect.Parameter.POSITIONAL_ONLY)
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise ConfigError(f"env.name: {factory!r} does not say its parameters: give a class of tasks, or a "
                          "function that is written in Python.") from error
    return {name: parameter for name, parameter in parameters.items() if parameter.kind not in unnamed}


def _others(factory: Factory, hints: Mapping[str, Any]) -> Any:
    """The type of settings that have whatever name, of a factory that says it at its **parameter; None: it
    takes none."""
    names = [name for name, parameter in inspect.signature(factory).parameters.items()
             if parameter.kind is parameter.VAR_KEYWORD]
    return hints.get(names[0]) if names else None


def _hints(factory: Factory) -> dict[str, Any]:
    """Types of the parameters; none of what has no annotations, such as a functools.partial."""
    try:
        return typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except TypeError:
        return {}
    except (NameError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"env.name: the types of {factory.__qualname__}'s settings cannot be read: "
                          f"{error}. Import what its annotations name.") from error


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return _is_finite([*value.keys(), *value.values()])
    if isinstance(value, tuple | list | set):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type; whole numbers are numbers, and true and false are none."""
    origin = typing.get_origin(kind)
    choices = typing.get_args(kind)
    if kind is Any or isinstance(kind, typing.TypeVar):
        return True
    if origin is typing.Annotated:
        return _fits(value, choices[0])
    if origin is typing.Literal:
        return any(type(value) is type(choice) and value == choice for choice in choices)
    if isinstance(kind, types.UnionType) or origin is typing.Union:
        return any(_fits(value, choice) for choice in choices)
    if origin is not None:
        return isinstance(value, origin) and _items_fit(value, origin, choices)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _items_fit(value: Any, origin: type, kinds: Sequence[Any]) -> bool:
    """Whether what a container holds is of the types in its brackets."""
    if isinstance(value, Mapping):
        return all(_fits(key, kinds[0]) and _fits(item, kinds[1]) for key, item in value.items())
    if isinstance(value, tuple) and issubclass(origin, tuple) and ... not in kinds:
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    return not isinstance(value, list | tuple | set) or all(_fits(item, kinds[0]) for item in value)


def _type_name(kind: Any) -> str:
    return kind.__name__ if inspect.isclass(kind) else str(kind)
