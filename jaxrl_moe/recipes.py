"""Recipes by their path: they find `configs.shared` and their neighbours, whatever the working directory."""
import contextlib
import importlib.machinery
import importlib.util
import pathlib
import sys
import traceback
import types
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxrl_moe import config as config_lib
from jaxrl_moe.config import ConfigError
from jaxrl_moe.paths import shortened
from jaxrl_moe.spelling import cut, did_you_mean, escaped
from jaxrl_moe.types import UserError

_PACKAGE = "configs"
SHIPPED = pathlib.Path(__file__).resolve().parent.parent / _PACKAGE


def settings(named: str) -> ConfigDict:
    """What get_config() of a recipe returns.

    Args:
      named: the file's path; what stands behind a colon is given to get_config().

    Raises:
      ConfigError: there is no such file, it fails, or what it returns is no ConfigDict.
    """
    path, *argument = named.split(":", 1)
    _check_file(path)
    with _told(path), importable(path):
        module = load(path)
        if not callable(getattr(module, "get_config", None)):
            raise ConfigError(f"The recipe {path!r} has no get_config(): define it, and have it return what "
                              "base() of jaxrl_moe.config gives, with what differs.")
        made = module.get_config(*argument)
    if not isinstance(made, Mapping | ConfigDict):
        hint = " It has no return statement that is reached." if made is None else ""
        raise ConfigError(f"get_config() of the recipe {path!r} returns {_kind(made)}, where a ConfigDict is "
                          f"needed, such as base() of jaxrl_moe.config makes.{hint}")
    return made if isinstance(made, ConfigDict) else ConfigDict(made)


def _check_file(path: str) -> None:
    try:
        is_folder = pathlib.Path(path).is_dir()
        is_file = pathlib.Path(path).is_file()
    except (OSError, ValueError) as error:  # a name that is too long, or that has a NUL
        raise ConfigError(f"The recipe {shortened(path)} cannot be opened: "
                          f"{getattr(error, 'strerror', None) or error}.") from error
    if is_file:
        return
    what = "is a folder" if is_folder else "does not exist"
    meant = config_lib.listed(same_name(path))
    raise ConfigError(f"The recipe {shortened(path)} {what}: --config must name a Python file with "
                      f"get_config(){f', such as {meant}' if meant else ''}.")


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Errors of the recipe's own code with its name and the line."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever its author wrote
        line = _line(path, error)
        where = f", line {line}" if line else ""
        raise ConfigError(f"The recipe {path!r}{where} cannot be read: {_reason(error)}. Mend it there; "
                          "--debug prints the traceback.") from error


def _line(path: str, error: BaseException) -> int:
    """The recipe's line that failed, 0 where that is not known."""
    if isinstance(error, SyntaxError):
        return error.lineno or 0
    own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return own[-1] if own else 0


def _reason(error: BaseException) -> str:
    """The error's name and message, on one line; of a key that a ConfigDict has not, without all that it
    has."""
    message = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    if isinstance(error, SystemExit):
        message = "it ends the process"
    elif isinstance(error, AttributeError | KeyError) and 'Key "' in message:
        key = message.split('"')[1]
        names = [name.rpartition(".")[2] for name in config_lib.known_keys()]
        message = f"there is no setting {key!r} in that section.{did_you_mean(key, names)}"
    return f"{type(error).__name__}: {cut(escaped(message), 300)}".removesuffix(": ").rstrip(".")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


@contextlib.contextmanager
def importable(path: str | pathlib.Path) -> Iterator[None]:
    """Within, `configs` is the folder of that name that the recipe at `path` lies in, then the shipped one.

    A folder or package elsewhere on the import path that is called `configs` too is not in the way: it comes
    last. Afterwards `configs` means again what it meant before.
    """
    before = _taken_out()
    package = _made([*_own(pathlib.Path(path)), SHIPPED, *_others()])
    sys.modules[_PACKAGE] = package
    try:
        _run_init(package)
        yield
    finally:
        _taken_out()
        sys.modules.update(before)


def load(path: str | pathlib.Path) -> types.ModuleType:
    """The module of the recipe at `path`, which need not lie in a folder `configs`."""
    path = pathlib.Path(path)
    name = f"recipe_{path.stem}"
    # whatever the file's ending is
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    with importable(path):
        loader.exec_module(module)
    return module


def same_name(path: str) -> list[str]:
    """Shipped recipes that a missing path may mean: gsm8k_grpo.py, as grpo.py, is configs/gsm8k/grpo.py."""
    wanted = pathlib.Path(path).stem
    files = [file.relative_to(SHIPPED) for file in shipped()]
    return [f"{_PACKAGE}/{file}" for file in files if wanted in _names(file)]


def _names(file: pathlib.Path) -> tuple[str, str]:
    return file.stem, "_".join(file.with_suffix("").parts)


def shipped() -> list[pathlib.Path]:
    """The files of all recipes that come with the library, without the bases that they share."""
    return [file for file in sorted(SHIPPED.rglob("*.py")) if file.parent != SHIPPED / "shared"]


def _own(path: pathlib.Path) -> list[pathlib.Path]:
    """The nearest folder called configs above the recipe, if there is one."""
    return [folder for folder in path.resolve().parents if folder.name == _PACKAGE][:1]


def _others() -> list[pathlib.Path]:
    spec = importlib.machinery.PathFinder.find_spec(_PACKAGE)
    return [] if spec is None else [pathlib.Path(folder) for folder in spec.submodule_search_locations or ()]


def _made(folders: list[pathlib.Path]) -> types.ModuleType:
    package = types.ModuleType(_PACKAGE)
    package.__path__ = list(dict.fromkeys(map(str, folders)))
    return package


def _run_init(package: types.ModuleType) -> None:
    """Runs the __init__.py of the recipe's own folder, if it has one."""
    init = pathlib.Path(package.__path__[0]) / "__init__.py"
    if init.exists():
        package.__file__ = str(init)
        exec(compile(init.read_text(), str(init), "exec"), package.__dict__)  # as importing the folder would


def _taken_out() -> dict[str, types.ModuleType]:
    """Removes `configs` and all below it from the loaded modules, and returns them."""
    names = [name for name in sys.modules if name == _PACKAGE or name.startswith(_PACKAGE + ".")]
    return {name: sys.modules.pop(name) for name in names}
