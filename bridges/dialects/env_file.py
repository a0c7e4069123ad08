"""Files of environment variables, as `--env-file` names them: KEY=VALUE lines, `export`, quotes, comments."""
import os
import pathlib
import re
from collections.abc import Mapping, MutableMapping

from jaxrl_moe.paths import shortened
from jaxrl_moe.types import UserError

_LINE = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=[ \t]*(?P<value>.*)$")
_SINGLE = re.compile(r"'(?P<inner>[^']*)'\s*(#.*)?$")
_DOUBLE = re.compile(r'"(?P<inner>(?:[^"\\]|\\.)*)"\s*(#.*)?$')
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def load_if_named(options: Mapping[str, str]) -> None:
    """Loads the file that a command line's options name, if they name one."""
    if "env-file" in options:
        load(options["env-file"])


def load(path: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets the file's variables that are not set already.

    Raises:
      UserError: it cannot be read, or a line is none; the line is named, no value is.
    """
    for name, value in read(path).items():
        environment.setdefault(name, value)


def read(path: str) -> dict[str, str]:
    """The file's variables; of a name that stands twice the last. Raises UserError as `load`."""
    try:
        text = pathlib.Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UserError(f"--env-file={shortened(path)} cannot be read: {reason}. Name a file of NAME=VALUE "
                        "lines.") from error
    variables: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, value = _variable(line, f"{shortened(path)}, line {number}")
            variables[name] = value
    return variables


def _variable(line: str, where: str) -> tuple[str, str]:
    match = _LINE.match(line)
    if match is None:
        raise UserError(f"{where} is no NAME=VALUE: write it so, or make it a comment with #. (What it holds "
                        "is not shown.)")
    return match["name"], _value(match["value"], f"{where} ({match['name']})")


def _value(text: str, where: str) -> str:
    quote = text[:1]
    if quote not in ("'", '"'):
        return _plain(re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip(), where)
    match = (_SINGLE if quote == "'" else _DOUBLE).match(text)
    if match is None:
        raise UserError(f"{where}: the quotes do not close, or something follows them: write "
                        f"NAME={quote}...{quote} on one line.")
    if quote == "'":
        return match["inner"]
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), _plain(match["inner"], where))


def _plain(text: str, where: str) -> str:
    if "${" in text or "\0" in text:
        raise UserError(f"{where}: ${{...}} is not filled in here: write the value out, or put it into "
                        "single quotes to have it as it is.")
    return text
