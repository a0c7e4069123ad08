"""Paths as people write them, and the names of folders that are being written."""
import os
import pathlib
import shutil

LONGEST_NAME = 255   # bytes of a name in a path, as Linux and macOS have it
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


def partial_name(target: pathlib.Path) -> pathlib.Path:
    """The name beside `target` under which this process writes it."""
    return target.with_name(f".{target.name}.partial-{os.getpid()}")


def tidy_after_the_dead(target: pathlib.Path) -> None:
    """Removes what processes that were killed left beside `target`; one killed between two renames left the
    folder itself set aside, which is put back."""
    for left in target.parent.glob(f".{target.name}.partial-*"):
        number, _, kind = left.name.rpartition("partial-")[2].partition(".")
        if not number.isdigit() or runs(int(number)):
            continue
        if kind == "old" and not target.exists():
            left.rename(target)
        else:
            shutil.rmtree(left, ignore_errors=True)


def runs(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # the latter: more than a process's number can be
        return False
    except PermissionError:
        pass
    return True
