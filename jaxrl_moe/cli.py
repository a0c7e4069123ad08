"""What the scripts share: the --config flag with checked overrides, --help, and errors printed as one
paragraph."""
import inspect
import os
import pathlib
import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from jaxrl_moe import config as config_lib
from jaxrl_moe import endings, foreign, options, paths, recipes
from jaxrl_moe.config import ConfigError
from jaxrl_moe.distributed.chips import set_memory_fraction
from jaxrl_moe.help_text import options_help, settings_help
from jaxrl_moe.hosts import launch, peers
from jaxrl_moe.spelling import cut

CACHE_BYTES = 2 << 30  # of compiled programs that are kept; those unused for longest make room
_OPTION = re.compile(r"--?([\w.]+)(?:=(.*))?$", re.DOTALL)
_OVERRIDE = re.compile(r"--?(no)?config\.([\w.]+)(=.*)?$", re.DOTALL)


def run(main: Callable[..., None], *, recipe: bool = True, compiled: bool = False, hosts: bool = False,
        folders: bool = False, document: str = "", dialects: Sequence[foreign.Dialect] = ()) -> None:
    """Parses the command line, calls main, and ends the process.

    Whatever error comes is printed as one paragraph, and with --debug its traceback before; the exit code is
    1, or 130 where Ctrl-C ended it.

    Args:
      main: takes the resolved Config; or nothing, if recipe is false; or the folders, if it has such.
      recipe: whether the script has a --config flag.
      compiled: whether compiled programs are kept for the next start, see keep_compiled.
      hosts: whether the script may be one of several processes, which flags or the environment then tell; see
        hosts/launch.py.
      document: what --help says before the options; empty: what main's module says of itself.
      folders: whether arguments that are no options are folders, for a script without a recipe.
      dialects: of other systems, whose configurations are taken in place of a recipe.
    """
    endings.install()
    membership_flags = _define_membership() if hosts else ()

    def call(arguments: Sequence[str]) -> None:
        set_memory_fraction(os.environ)
        if len(arguments) > 1 and not folders:
            raise ConfigError(f"{cut(repr(arguments[1]))} is not an option; options have the form "
                              "--name=value. See --help.")
        membership = launch.find(*(flag.value for flag in membership_flags), os.environ) if hosts else None
        if membership is None:
            start(arguments[1:])
        else:
            _start_together(membership, start)

    def start(given: Sequence[str] = ()) -> None:
        if recipe:
            main(config_lib.resolve(flags.FLAGS.config))
        elif folders:
            main([paths.expanded(path) for path in given])
        else:
            main()
        endings.flush_output()

    logging.set_verbosity(logging.WARNING)
    if folders:
        flags.FLAGS.set_gnu_getopt()  # options may follow them
    if compiled:
        keep_compiled()
    document = document or inspect.getmodule(main).__doc__
    try:
        app.run(call, flags_parser=lambda arguments: parse(arguments, document, recipe, dialects))
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(endings.tell(error))


def _define_membership() -> tuple[flags.FlagHolder, ...]:
    return (flags.DEFINE_string("coordinator", None,
                                "host:port of process 0, where a run has several processes; SLURM, a "
                                "Kubernetes JobSet and the files in scripts/launch say it by themselves"),
            flags.DEFINE_integer("num_processes", None,
                                 "how many processes the run has, at least 1; 1: alone, whatever the "
                                 "environment says", lower_bound=1),
            flags.DEFINE_integer("process_id", None, "which of them this is, from 0", lower_bound=0))


def _start_together(membership: launch.Membership, start: Callable[[], None]) -> None:
    """Joins the other processes and starts; an error here ends them too."""
    launch.join(membership)
    try:
        start()
    except (Exception, KeyboardInterrupt) as error:
        peers.fail(error)


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


def parse(arguments: Sequence[str], document: str = "", recipe: bool = True,
          dialects: Sequence[foreign.Dialect] = ()) -> list[str]:
    """Parses argv; returns what is left. Unknown settings are refused, each with the nearest known name.

    Raises:
      ConfigError: an unknown option or setting, a value that does not parse, a recipe that is missing or does
        not load.
    """
    if any(argument in ("--help", "-h", "-help", "--helpshort") for argument in arguments):
        blocks = (document.strip(), options_help(), settings_help() if recipe else "")
        print("\n\n".join(filter(None, blocks)))
        endings.flush_output()
        sys.exit(0)
    dialect = None
    if recipe:
        arguments, dialect, theirs = foreign.parted(arguments, dialects)
        config_lib.refuse_unknown(*filter(None, map(_overridden, arguments)))
        arguments = _joined(arguments)
    _refuse_twice(arguments)
    try:
        if dialect is not None:
            arguments = _take_foreign(arguments, dialect, theirs)
        elif recipe:
            arguments = _take_recipe(arguments)
        return flags.FLAGS(arguments)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = options.reason(error)
        raise ConfigError(f"The command line cannot be read: {reason} (see --help).") from error


def _take_recipe(arguments: Sequence[str]) -> list[str]:
    """Defines the flags of the recipe's settings that the arguments override; returns these without the
    recipe."""
    rest, path = _parted(arguments)
    if not path:
        raise ConfigError("No recipe is given: add --config=FILE.py, such as --config=configs/quickstart.py.")
    return _define(recipes.settings(paths.usable(path)), rest)


def _take_foreign(arguments: Sequence[str], dialect: foreign.Dialect, theirs: Sequence[str]) -> list[str]:
    """The same with another system's configuration."""
    read = dialect.read(theirs)
    read.refuse_missing(filter(None, map(_overridden, arguments)))
    print(read.said)
    return _define(read.settings, arguments)


def _define(settings: ConfigDict, arguments: Sequence[str]) -> list[str]:
    arguments = [_readable(argument) for argument in arguments]
    config_flags.DEFINE_config_dict("config", settings, sys_argv=arguments)
    return arguments


def _parted(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments without --config, and what it names."""
    rest = list(arguments)
    for i, argument in enumerate(arguments):
        if argument == "--":
            break
        if re.match("--?config=", argument):
            return rest[:i] + rest[i + 1:], argument.split("=", 1)[1]
        if re.fullmatch("--?config", argument) and i + 1 < len(arguments):
            return rest[:i] + rest[i + 2:], arguments[i + 1]
    return rest, None


def _refuse_twice(arguments: Sequence[str]) -> None:
    """Raises ConfigError for an option that is given twice with different values, of which one would have no
    effect; lists may be given item by item."""
    seen: dict[str, str] = {}
    for name, value in _given(arguments):
        if seen.setdefault(name, value) != value:
            raise ConfigError(f"--{name} is given twice, as {cut(repr(seen[name]))} and as "
                              f"{cut(repr(value))}: leave one out.")


def _given(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields the options that stand once each, with their values as text."""
    following = iter(arguments[1:])
    for argument in following:
        match = _OPTION.match(argument)
        if argument == "--":
            return
        if not match:
            continue
        name = match[1]
        kind = config_lib.known_keys().get(name.removeprefix("config."))
        flag = flags.FLAGS[name] if name in flags.FLAGS else None
        off = name.removeprefix("no")
        if flag is None and kind is None and (off in flags.FLAGS or off.startswith("config.")):
            yield off, "false"
        elif kind is bool or (flag is not None and flag.boolean):
            yield name, match[2] or "true"
        else:
            value = match[2] if match[2] is not None else next(following, "")
            if not isinstance(kind, types.GenericAlias) and not isinstance(flag, flags.MultiFlag):
                yield name, value


def _overridden(argument: str) -> str | None:
    """The setting that an argument overrides, if it does."""
    match = _OVERRIDE.match(argument)
    return match[2] if match else None


def _joined(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments, where "--config.x", "value" of a tuple's setting has become "--config.x=value"."""
    joined = []
    for argument in arguments:
        match = _OVERRIDE.match(joined[-1]) if joined else None
        if match and match[3] is None and _is_tuple(match[2]):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _is_tuple(key: str) -> bool:
    return config_lib.known_keys().get(key) in (tuple[str, ...], tuple[float, ...])


def _readable(argument: str) -> str:
    """The argument; a tuple's value in the form that absl reads."""
    match = _OVERRIDE.match(argument)
    if not match or not match[3] or not _is_tuple(match[2]):
        return argument
    items = config_lib.split_items(config_lib.known_fields()[match[2]], match[3][1:])
    return f"--config.{match[2]}={items!r}"
