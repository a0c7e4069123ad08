"""Tasks by name: the table of those that the package has, those that others add to it, and env.name with its
settings read into one."""
import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs.gsm8k import Gsm8k
from jaxrl_moe.envs.word_problems import WordProblems
from jaxrl_moe.protocols import Task
from jaxrl_moe.rl.table import AlgorithmError, parse_spec
from jaxrl_moe.spelling import did_you_mean
from jaxrl_moe.types import Prompt, UserError

# A task's class, or a function that makes one: its parameters are the task's settings, each with a type and a
# default.
Factory = Callable[..., Task]
TASKS: dict[str, Factory] = {"gsm8k": Gsm8k, "word_problems": WordProblems}
_SPEC = re.compile(r"\s*(?P<name>[\w.:]*)\s*(?P<settings>\(.*\))?\s*", re.DOTALL)


def register(name: str, factory: Factory) -> None:
    """Adds a task under a name of its own, as of a package that this one knows nothing of.

    Raises:
      UserError: the name is taken, or is none.
    """
    if not name.isidentifier():
        raise UserError(f"A task cannot be called {name!r}: give a name of letters, digits and underscores, "
                        "such as my_task.")
    if TASKS.setdefault(name, factory) is not factory:
        raise UserError(f"There is a task {name!r} already: register yours under another name.")


def make_task(spec: str) -> Task:
    """Makes a task, which reads and checks its settings and does nothing else; close it in the end.

    Args:
      spec: a name, with settings in brackets if any: "gsm8k", "gsm8k(binary=true)". The name is a row of
        TASKS, or a class or function of any package that can be imported, as "my_package.my_module:MyTask".

    Raises:
      ConfigError: there is no such task, it has no such setting, a value is of another type, or the task
        refuses it.
    """
    match = _SPEC.fullmatch(spec)
    if not match:
        raise ConfigError(f"env.name = {spec!r} cannot be read: write a task's name, such as gsm8k, or a "
                          "name with settings in brackets, such as gsm8k(binary=true).")
    factory = _factory(match["name"])
    try:
        given = parse_spec(f"task{match['settings'] or ''}")[1]
    except AlgorithmError as error:
        raise ConfigError(f"env.name = {spec!r} cannot be read: write settings as name=value, such as "
                          "gsm8k(binary=true).") from error
    lacking = [_signature(factory, method) for method in sorted(getattr(factory, "__abstractmethods__", ()))]
    if lacking:
        raise ConfigError(f"env.name = {spec!r}: the task lacks {' and '.join(lacking)}: define what a task "
                          "is made of, see docs/extending/task.md.")
    for problem in _problems(match["name"], factory, given):
        raise ConfigError(f"env.name = {spec!r}: {problem}")
    try:
        return factory(**given)
    except UserError as error:
        raise ConfigError(f"env.name = {spec!r}: {error}") from error


def check_rows(task: Task, prompts: Iterable[Prompt]) -> None:
    """Asks the task about every row, so that one that no episode can be made of is found before the training.
    Runs nothing.

    Raises:
      UserError: what the task says of the first such row, after its file and row.
    """
    for prompt in prompts:
        try:
            task.check_row(prompt.row, prompt.index)
        except UserError as error:
            raise UserError(f"{prompt.origin}: {error}") from error


def _signature(factory: Factory, method: str) -> str:
    """A method as it is called."""
    _, *names = inspect.signature(getattr(factory, method)).parameters
    return f"{method}({', '.join(names)})"


def _factory(name: str) -> Factory:
    if name in TASKS:
        return TASKS[name]
    module, colon, attribute = name.partition(":")
    if colon:
        return _imported(module, attribute)
    near = did_you_mean(name, TASKS) or _with_colon(name)
    raise ConfigError(f"env.name = {name!r} is not known.{near} Known: {', '.join(TASKS)}, or "
                      "package.module:Name for a task of another package.")


def _with_colon(name: str) -> str:
    """A hint for package.module.Name, if there is such a module."""
    module, _, attribute = name.rpartition(".")
    try:
        names = _makers(importlib.import_module(module))
    except (ImportError, TypeError, ValueError):
        return ""
    return did_you_mean(attribute, names, prefix=f"{module}:")


def _imported(module: str, attribute: str) -> Factory:
    where = f"env.name = '{module}:{attribute}'"
    try:
        imported = importlib.import_module(module)
    except (ImportError, TypeError, ValueError) as error:
        raise ConfigError(f"{where} cannot be imported: {error}. Install the package, or put its folder on "
                          "PYTHONPATH.") from error
    factory = getattr(imported, attribute, None)
    if not callable(factory):
        raise ConfigError(f"{where}: the module {module} has no class or function {attribute!r} that makes a "
                          f"task.{did_you_mean(attribute, _makers(imported))}")
    return factory


def _makers(module: types.ModuleType) -> list[str]:
    """What a module has that may make a task."""
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]


def _problems(name: str, factory: Factory, given: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the settings, as the signature of the task has them."""
    known = _parameters(factory)
    hints = _hints(factory)
    for setting, value in given.items():
        if setting not in known:
            bare = " Its fields are settings if it is a @dataclasses.dataclass." * _is_bare(factory, setting)
            yield (f"the task {name!r} has no setting {setting!r}.{did_you_mean(setting, known)} "
                   f"Its settings: {', '.join(known) or 'none'}.{bare}")
        elif not _fits(value, hints.get(setting, Any)):
            yield f"setting {setting} = {value!r} must be of type {_shown(hints[setting])}."
    for setting, parameter in known.items():
        if parameter.default is parameter.empty and setting not in given:
            yield f"the task {name!r} needs the setting {setting!r}: write {name}({setting}=...)."


def _is_bare(factory: Factory, setting: str) -> bool:
    """Whether it is a class that has such a field, and is no dataclass."""
    return (inspect.isclass(factory) and "__dataclass_fields__" not in vars(factory)
            and setting in inspect.get_annotations(factory))


def _parameters(factory: Factory) -> dict[str, inspect.Parameter]:
    """The named parameters; what a task takes beyond these has no name that could be checked."""
    unnamed = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return {name: parameter for name, parameter in inspect.signature(factory).parameters.items()
            if parameter.kind not in unnamed}


def _hints(factory: Factory) -> dict[str, Any]:
    """Types of the parameters; none of what has no annotations, such as a functools.partial."""
    try:
        return typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except TypeError:
        return {}


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type; whole numbers are numbers, and true and false are none."""
    if kind is Any:
        return True
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return any(_fits(value, choice) for choice in typing.get_args(kind))
    kind = typing.get_origin(kind) or kind
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _shown(kind: Any) -> str:
    return kind.__name__ if inspect.isclass(kind) else str(kind)
