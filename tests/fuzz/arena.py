"""Where one damaged input is tried: a folder of inputs, one for the output, and one beside them that nothing
may touch; and limits of time and memory."""
import contextlib
import faulthandler
import hashlib
import pathlib
import resource
import shutil
import signal
import sys
from collections.abc import Iterator

ROOM = 6 << 30  # bytes of address space that a case may add to what the process has


class TooSlow(BaseException):
    """A case ran out of time; no `except Exception` may swallow it."""


class Arena:
    """Folders `inputs`, `output`, `beside`; and `pristine`, a copy of the inputs.

    Args:
      root: where to make them; must be empty.
    """

    def __init__(self, root: pathlib.Path):
        self.root = root
        self.inputs = root / "inputs"
        self.output = root / "output"
        self.beside = root / "beside"
        self.pristine = root / "pristine"
        for folder in (self.inputs, self.output, self.beside):
            folder.mkdir(parents=True)
        (self.beside / "notes.txt").write_text("mine\n")

    def keep(self) -> None:
        """Takes the inputs as they are for the valid ones."""
        weights = sorted(self.inputs.rglob("*.safetensors"))
        if weights:  # what a path that leaves the folder could reach
            shutil.copyfile(weights[0], self.beside / "other.safetensors")
        shutil.copytree(self.inputs, self.pristine, symlinks=True)

    def write(self, changed: dict[str, bytes | None]) -> None:
        """Writes damaged files; None: the file is not there."""
        for name, content in changed.items():
            path = self.inputs / name
            path.unlink(missing_ok=True)
            if content is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def restore(self) -> None:
        """Puts everything back."""
        for folder in (self.inputs, self.output):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.pristine, self.inputs, symlinks=True)
        self.output.mkdir()

    def outside(self, written: tuple[str, ...]) -> dict[str, tuple]:
        """{path: what it is} of all that a case may not touch: everything but the output, and those inputs
        that it may write."""
        allowed = [self.output, *(self.inputs / name for name in written)]
        found = {}
        for path in sorted(self.root.rglob("*")):
            if not any(path == folder or folder in path.parents for folder in allowed):
                found[str(path.relative_to(self.root))] = _what(path)
        return found


def _what(path: pathlib.Path) -> tuple:
    if path.is_symlink() or not path.is_file():
        return ("folder or link",)
    status = path.stat()
    return status.st_size, status.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def limits(seconds: float) -> Iterator[None]:
    """Raises TooSlow after so many seconds; MemoryError where more than ROOM is asked for. A timer that was
    set before goes on afterwards. Code that holds the interpreter for much longer ends the process."""
    def late(*_):
        raise TooSlow(f"it ran for more than {seconds:g} seconds")

    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, late)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(20 * seconds, exit=True, file=sys.__stderr__)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, remaining, interval)
