"""What the scripts share: the --config flag with checked overrides, --help, and errors printed as one
paragraph."""
import contextlib
import inspect
import os
import pathlib
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from jaxrl_moe import config as config_lib
from jaxrl_moe import paths, recipes
from jaxrl_moe.config import ConfigError
from jaxrl_moe.distributed.chips import set_memory_fraction
from jaxrl_moe.help_text import options_help, settings_help
from jaxrl_moe.hosts import launch
from jaxrl_moe.system_errors import system_error
from jaxrl_moe.types import UserError

CACHE_BYTES = 2 << 30  # of compiled programs that are kept; those unused for longest make room
_OVERRIDE = re.compile(r"--?(no)?config\.([\w.]+)(=.*)?$", re.DOTALL)


def run(main: Callable[..., None], *, recipe: bool = True, compiled: bool = False,
        hosts: bool = False) -> None:
    """Parses the command line, calls main, and ends the process.

    A UserError, an error of the operating system, a mistake on the command line and one in the recipe are
    printed as one paragraph; the exit code is 1.

    Args:
      main: takes the resolved Config; or nothing, if recipe is false.
      recipe: whether the script has a --config flag.
      compiled: whether compiled programs are kept for the next start, see keep_compiled.
      hosts: whether the script may be one of several processes, which flags or the environment then tell; see
        hosts/launch.py.
    """
    membership_flags = _define_membership() if hosts else ()
    holder = _define_recipe() if recipe else None

    def call(arguments: Sequence[str]) -> None:
        set_memory_fraction(os.environ)
        if len(arguments) > 1:
            raise ConfigError(f"{arguments[1]!r} is not an option; options have the form --name=value. See "
                              "--help.")
        membership = launch.find(*(flag.value for flag in membership_flags), os.environ) if hosts else None
        if membership is None:
            start()
        else:
            _start_together(membership, start)

    def start() -> None:
        if recipe:
            main(config_lib.resolve(holder.value))
        else:
            main()

    logging.set_verbosity(logging.WARNING)
    if compiled:
        keep_compiled()
    document = inspect.getmodule(main).__doc__
    try:
        app.run(call, flags_parser=lambda arguments: parse(arguments, document, recipe))
    except UserError as error:
        print(paragraph(error), file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(paragraph(system_error(error)), file=sys.stderr)
        sys.exit(1)


def _define_recipe() -> flags.FlagHolder:
    return config_flags.DEFINE_config_file("config", None, "path of a recipe, such as configs/quickstart.py")


def _define_membership() -> tuple[flags.FlagHolder, ...]:
    return (flags.DEFINE_string("coordinator", None,
                                "host:port of process 0, where a run has several processes; SLURM, a "
                                "Kubernetes JobSet and the files in scripts/launch say it by themselves"),
            flags.DEFINE_integer("num_processes", None,
                                 "how many processes the run has; 1: alone, whatever the environment says"),
            flags.DEFINE_integer("process_id", None, "which of them this is, from 0"))


def _start_together(membership: launch.Membership, start: Callable[[], None]) -> None:
    """Joins the other processes and starts; an error here ends them too."""
    launch.join(membership)
    try:
        start()
    except (UserError, OSError) as error:
        launch.fail(paragraph(error if isinstance(error, UserError) else system_error(error)))
    except BaseException as error:
        traceback.print_exc()
        launch.fail(paragraph(error))


def keep_compiled() -> None:
    """Keeps compiled programs in ~/.cache/jaxrl_moe/xla, so that a second start need not compile them again.

    JAX_COMPILATION_CACHE_DIR names another folder, which JAX reads by itself, and
    JAX_COMPILATION_CACHE_MAX_SIZE another limit than CACHE_BYTES. Where the folder cannot be written nothing
    is kept, as on a machine without a home.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    try:
        folder = pathlib.Path("~/.cache/jaxrl_moe/xla").expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        _mark_unused(folder)
    except (OSError, RuntimeError):  # a read-only home, or none
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ:
            jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)


def _mark_unused(folder: pathlib.Path) -> None:
    """Gives entries without a time of last use the oldest one: JAX writes it apart, and makes no room where
    one is missing."""
    for entry in folder.glob("*-cache"):
        mark = entry.with_name(entry.name.removesuffix("-cache") + "-atime")
        if not mark.exists():
            mark.write_bytes(bytes(8))


def require(*holders: flags.FlagHolder) -> None:
    """Raises ConfigError for the first flag that was not given."""
    for holder in holders:
        if not holder.value:
            raise ConfigError(f"--{holder.name} is required: {flags.FLAGS[holder.name].help}. See --help.")


def paragraph(error: Exception) -> str:
    """The error's message as one wrapped paragraph; of several problems as a wrapped list, one an entry."""
    lines = str(error).splitlines() if len(getattr(error, "problems", ())) > 1 else [str(error)]
    entries = [_filled(f"Error: {lines[0]}", ""), *(_filled(line, "   ") for line in lines[1:])]
    return "\n".join(entries)


def _filled(text: str, indent: str) -> str:
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def parse(arguments: Sequence[str], document: str = "", recipe: bool = True) -> list[str]:
    """Parses argv; returns what is left. Unknown settings are refused, each with the nearest known name.

    Raises:
      ConfigError: an unknown option or setting, a value that does not parse, a recipe that is missing or does
        not load.
    """
    if any(argument in ("--help", "-h", "-help", "--helpshort") for argument in arguments):
        blocks = (document.strip(), options_help(), settings_help() if recipe else "")
        print("\n\n".join(filter(None, blocks)))
        sys.exit(0)
    if recipe:
        config_lib.refuse_unknown(*filter(None, map(_overridden, arguments)))
        arguments = [_readable(argument) for argument in arguments]
        _check_recipe(arguments)
    try:
        with recipes.importable(_file(arguments)) if recipe else contextlib.nullcontext():
            return flags.FLAGS(arguments)
    except (flags.Error, AttributeError, ImportError, KeyError, SyntaxError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].strip('"')
        raise ConfigError(f"The command line{f' or the recipe {_recipe(arguments)}' if recipe else ''} "
                          f"cannot be read: {reason.rstrip('.')}. See --help.") from error


def _check_recipe(arguments: Sequence[str]) -> None:
    path = _recipe(arguments)
    if path is None:
        raise ConfigError("No recipe is given: add --config=FILE.py, such as --config=configs/quickstart.py.")
    if not os.path.isfile(_file(arguments)):
        meant = config_lib.listed(recipes.same_name(_file(arguments)))
        raise ConfigError(f"The recipe {path!r} does not exist: --config must name a Python file with "
                          f"get_config(){f', such as {meant}' if meant else ''}.")


def _file(arguments: Sequence[str]) -> str:
    """The path of the recipe, without what stands behind a colon for its get_config()."""
    return _recipe(arguments).split(":")[0]


def _recipe(arguments: Sequence[str]) -> str | None:
    for i, argument in enumerate(arguments):
        if re.fullmatch("--?config=.*", argument):
            return argument.split("=", 1)[1]
        if re.fullmatch("--?config", argument) and i + 1 < len(arguments):
            return arguments[i + 1]
    return None


def _overridden(argument: str) -> str | None:
    """The setting that an argument overrides, if it does."""
    match = _OVERRIDE.match(argument)
    return match[2] if match else None


def _readable(argument: str) -> str:
    """The argument with the home folder in the recipe's path, and a tuple's value in the form that absl
    reads."""
    if re.match("--?config=", argument):
        option, _, path = argument.partition("=")
        return f"{option}={paths.expanded(path)}"
    match = _OVERRIDE.match(argument)
    kind = config_lib.known_keys().get(match[2]) if match else None
    if kind not in (tuple[str, ...], tuple[float, ...]) or not match[3] or match[3].startswith(("=(", "=[")):
        return argument
    return f"--config.{match[2]}={config_lib.split_names(match[3][1:])!r}"
