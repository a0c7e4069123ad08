"""Paths as people write them."""
import os
import pathlib

from jaxrl_moe.spelling import cut
from jaxrl_moe.types import UserError

LONGEST_NAME = 255   # bytes of a name in a path, as Linux and macOS have it
SHOWN = 90           # characters of a name in a message
LONGEST_PATH = 4095  # bytes of a whole path


def expanded(path: str) -> str:
    """The path with `~` or `~user` at its beginning as that home folder; as it is where there is none."""
    return os.path.expanduser(path)


def unusable(path: str) -> str:
    """What keeps an expanded path from being one, as it goes on from the path; empty: nothing."""
    if path.startswith("~"):
        user = pathlib.PurePath(path).parts[0][1:]
        return f"begins with the home folder of {user!r}, and there is no such user" if user else (
            "begins with the home folder, and this process has none (HOME is not set)")
    if "\0" in path:
        return "holds a NUL character"
    try:
        names = os.fsencode(path).split(b"/")
    except UnicodeEncodeError:
        return "holds characters that the file system's encoding does not have"
    if max(map(len, names)) > LONGEST_NAME:
        return f"has a name of more than {LONGEST_NAME} bytes"
    return f"has more than {LONGEST_PATH} bytes" if len(os.fsencode(path)) > LONGEST_PATH else ""


def usable(path: str) -> str:
    """The expanded path; raises UserError for one that cannot be."""
    filled = expanded(path)
    if unusable(filled):
        raise UserError(f"The path {shortened(filled)} {unusable(filled)}. Give another one.")
    return filled


def is_folder(path: str) -> bool:
    """Whether there is a folder of that name; no name that cannot be is an error."""
    try:
        return pathlib.Path(path).is_dir()
    except (OSError, ValueError):  # a name that no file can have, or a folder that may not be looked into
        return False


def shortened(name: str) -> str:
    """A name in quotes, without its middle where it is long."""
    return repr(cut(name, SHOWN))
