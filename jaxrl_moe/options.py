"""Options of scripts that are more than text."""
import re
import sys
from collections.abc import Sequence

from absl import flags

from jaxrl_moe import paths
from jaxrl_moe.spelling import LONGEST, cut, escaped
from jaxrl_moe.types import UserError

DEBUG = flags.DEFINE_bool("debug", False, "the full traceback of an error, before the paragraph about it",
                          module_name="jaxrl_moe.cli")  # which gives options to all scripts

MOST_INT = 2**31 - 1
MOST_FLOAT = 1e12
_KINDS = {int: "an integer", float: "a finite number"}


class _PathParser(flags.ArgumentParser):
    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        path = paths.expanded(argument)
        if paths.unusable(path):
            raise ValueError(f"{path!r} {paths.unusable(path)}")
        return path


def define_path(name: str, default: str | None, meaning: str) -> flags.FlagHolder:
    """A script's option that is a path or a hub name, with `~` as the home folder. To be called at its
    top."""
    return flags.DEFINE(_PathParser(), name, default, meaning, module_name=sys.argv[0])


def define_text(name: str, default: str, meaning: str) -> flags.FlagHolder:
    """A script's option that is a text. To be called at its top."""
    return flags.DEFINE(flags.ArgumentParser(), name, default, meaning, module_name=sys.argv[0])


def define_texts(name: str, meaning: str) -> flags.FlagHolder:
    """A script's option that may be given several times, each time with a text. To be called at its top."""
    return flags.DEFINE_multi(flags.ArgumentParser(), flags.ArgumentSerializer(), name, [], meaning,
                              module_name=sys.argv[0])


def define_switch(name: str, default: bool, meaning: str) -> flags.FlagHolder:
    """A script's option that is on or off. To be called at its top."""
    return flags.DEFINE_bool(name, default, meaning, module_name=sys.argv[0])


class _NumberParser(flags.ArgumentParser):
    """Of a finite number between bounds, of the kind that its default is."""

    def __init__(self, kind: type, least: float, most: float) -> None:
        self.kind = kind
        self.least = least
        self.most = most
        self.syntactic_help = f"{_KINDS[kind]} {bounds(least, most)}"

    def parse(self, argument: str | float) -> float:
        try:
            number = self.kind(argument)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"it is no {self.kind.__name__}; it must be {self.syntactic_help}") from error
        if not self.least <= number <= self.most:
            raise ValueError(f"it must be {self.syntactic_help}")
        return number

    def flag_type(self) -> str:
        return self.kind.__name__


def bounds(least: float, most: float) -> str:
    """The bounds of a number in words; MOST_INT and MOST_FLOAT are none that people meet."""
    return f"of at least {least:g}" if most >= MOST_INT else f"from {least:g} to {most:g}"


def define_number(name: str, default: float, meaning: str, least: float = 0,
                  most: float | None = None) -> flags.FlagHolder:
    """A script's option that is a finite number, an integer where its default is one; `--help` says the
    bounds. To be called at its top."""
    kind = type(default)
    parser = _NumberParser(kind, least, (MOST_INT if kind is int else MOST_FLOAT) if most is None else most)
    meaning = f"{meaning} [{bounds(parser.least, parser.most).removeprefix('of ')}]"
    return flags.DEFINE(parser, name, default, meaning, module_name=sys.argv[0])


def define_dry_run() -> flags.FlagHolder:
    """A script's --dry_run. To be called at its top."""
    return flags.DEFINE_bool("dry_run", False, "only says what would happen, or all that speaks against it; "
                             "nothing is written", module_name=sys.argv[0])


def parsed(arguments: Sequence[str]) -> list[str]:
    """What is left of a command line without its options, of a script that cli.py does not start.

    Raises:
      UserError: an option is not known, or its value does not parse.
    """
    try:
        return flags.FLAGS(arguments)
    except flags.Error as error:
        raise UserError(f"The command line cannot be read: {reason(error)} (see --help).") from error


def reason(error: Exception) -> str:
    """The last line of what absl says, as the end of a sentence."""
    said = str(error).strip().splitlines()[-1].strip('"').rstrip(".")
    return cut(escaped(re.sub(r" ?\?$", "?", said)), 2 * LONGEST)
