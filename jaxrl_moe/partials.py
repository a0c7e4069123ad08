"""Temporary names of what is being written, which show whether their writer still lives.

A writer holds a lock (flock) on what it writes. The kernel frees it when the writer ends, however it ends, so
whoever writes into the same folder next knows what the dead left there, and removes it.
"""
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator

NAME = re.compile(r"\.(?P<target>.+)\.partial-(?:[0-9a-f]{12}|(?P<process>\d{1,7}))(?P<aside>\.old)?")
ASIDE = ".old"
DAY = 24 * 3600  # s; where files cannot be locked, what nobody has touched for so long is left over


@contextlib.contextmanager
def claimed(target: pathlib.Path, make: Callable[[pathlib.Path], None]) -> Iterator[pathlib.Path]:
    """Yields a new path beside `target`, which `make` creates; while the block runs nobody tidies it away.
    What is still there at the end is removed."""
    while True:
        path = target.with_name(f".{target.name}.partial-{uuid.uuid4().hex[:12]}")
        make(path)
        held = _lock(path)
        if path.exists():  # nobody tidied it away before it was locked
            break
        _free(held)
    try:
        yield path
    finally:
        _free(held)
        remove(path)


@contextlib.contextmanager
def set_aside(target: pathlib.Path, partial: pathlib.Path) -> Iterator[None]:
    """Renames what stands at `target`, if anything, for the block, which puts `partial` there; then removes
    it, or puts it back if the block fails."""
    if not target.exists():
        yield
        return
    aside = partial.with_name(partial.name + ASIDE)
    held = _lock(target)
    target.rename(aside)
    try:
        yield
    except BaseException:
        aside.rename(target)
        raise
    else:
        remove(aside)
    finally:
        _free(held)


def tidy(parent: pathlib.Path) -> None:
    """Removes what dead writers left in a folder; one that died between two renames left what it was to
    replace set aside, which is put back."""
    for left in parent.glob(".*.partial-*"):
        name = NAME.fullmatch(left.name)
        if name is None or left.is_symlink() or not _is_dead(left, name["process"]):
            continue
        target = left.with_name(name["target"])
        if name["aside"] and not target.exists():
            left.rename(target)
        else:
            remove(left)


def remove(path: pathlib.Path) -> None:
    """Removes a file or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_dead(left: pathlib.Path, process: str | None) -> bool:
    if process is not None and runs(int(process)):  # versions that held no lock named the process
        return False
    try:
        _free(_locked(left))
    except BlockingIOError:
        return False
    except OSError:
        return _untouched(left)
    return True


def _lock(path: pathlib.Path) -> int | None:
    """Locks it; None where the file system has no locks, or somebody tidies it away."""
    try:
        return _locked(path)
    except OSError:
        return None


def _locked(path: pathlib.Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _free(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _untouched(left: pathlib.Path) -> bool:
    try:
        newest = max(path.lstat().st_mtime for path in (left, *left.rglob("*")))
    except OSError:  # it has gone, or is not ours to read
        return False
    return time.time() - newest > DAY


def runs(process: int) -> bool:
    """Whether a process of this machine runs; one that ended, and that nobody has waited for, does not."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    try:
        state = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:  # it has ended meanwhile, or there is no /proc here
        return not pathlib.Path("/proc/self").exists()
    return state not in "ZX"
