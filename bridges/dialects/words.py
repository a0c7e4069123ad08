"""Words of a command line that belong to a dialect: its options, and its file."""
import re
from collections.abc import Sequence

from jaxrl_moe.paths import shortened, usable
from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import UserError

_OPTION = re.compile(r"--(?P<name>[a-z]+(?:[-_][a-z]+)*)(?:=(?P<value>.*))?", re.DOTALL)


def options_of(words: Sequence[str], known: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """(options as {name with hyphens: value}, the other words) of "--name value" and "--name=value".

    Raises:
      UserError: an option that is not known, is given twice, or has no value.
    """
    options: dict[str, str] = {}
    rest: list[str] = []
    following = iter(words)
    for word in following:
        if not word.startswith("--"):
            rest.append(word)
            continue
        match = _OPTION.fullmatch(word)
        name = match["name"].replace("_", "-") if match else word
        if match is None or name not in known:
            raise UserError(f"{quoted(word)} is no option.{did_you_mean(name, known, prefix='--')} Beside "
                            f"those of --help there are {', '.join('--' + each for each in known)}.")
        value = match["value"] if match["value"] is not None else next(following, "")
        if not value or options.setdefault(name, value) != value:
            raise UserError(f"--{name} {'is given twice' if value else 'has no value'}: write --{name}=VALUE "
                            "once.")
    return options, rest


def single_file(files: Sequence[str], dialect: str, form: str) -> str:
    """The one file. Raises UserError: there is none, or more."""
    if len(files) != 1:
        given = f"{len(files)} are given: {', '.join(map(shortened, files))}" if files else "none is given"
        raise UserError(f"{dialect} needs one {form}, and {given}.")
    return usable(files[0])
