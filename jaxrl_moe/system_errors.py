"""What an error of the operating system means to whoever started us."""
import errno
import io
import os
import socket
from collections.abc import Iterator

from jaxrl_moe.paths import shortened
from jaxrl_moe.types import UserError

_FORBIDDEN = "Check who may read and write there, or give another path"
_FULL = "Free some space, then give the same command again; a run goes on from its newest checkpoint"
_PATH = "Check the path"
_SHORTER = "Give a shorter path"
_FILES = "Close other programs, or allow more open files (ulimit -n), then give the same command again"
_MEMORY = "Close other programs or allow more memory and processes (ulimit -v, ulimit -u), then try again"
_SERVER = "Check that the server runs, and its address"
_OTHER = "Check the path, its permissions and the free space, then give the same command again"
_MENDS = {
    errno.ENOENT: _PATH, errno.ENOTDIR: _PATH, errno.EISDIR: _PATH, errno.ELOOP: _PATH, errno.EEXIST: _PATH,
    errno.EINVAL: _PATH, errno.ENAMETOOLONG: _SHORTER,
    errno.EACCES: _FORBIDDEN, errno.EPERM: _FORBIDDEN,
    errno.EROFS: "Give a path on a disk that can be written",
    errno.ENOSPC: _FULL, errno.EDQUOT: _FULL,
    errno.EFBIG: "Allow larger files (ulimit -f), then give the same command again",
    errno.EMFILE: _FILES, errno.ENFILE: _FILES, errno.ENOMEM: _MEMORY, errno.EAGAIN: _MEMORY,
    errno.EADDRINUSE: "Another program has that port: give another one, or 0 for a free one",
    errno.EADDRNOTAVAIL: "Give an address that this machine has, such as 127.0.0.1",
    errno.ECONNREFUSED: _SERVER, errno.ECONNRESET: _SERVER, errno.EPIPE: _SERVER, errno.ETIMEDOUT: _SERVER,
    errno.EHOSTUNREACH: _SERVER, errno.ENETUNREACH: _SERVER,
    errno.EIO: "The disk may be broken: give a path on another one",
    errno.ESTALE: "A network's disk went away: give the same command again when it is back"}


def system_error(error: OSError, stream: str = "") -> UserError:
    """The same error with its mend; text that a library wrote stays as it is.

    Args:
      error: of the system; where it names no file, one is looked for in what raised it.
      stream: what could not be written, where that is known, such as "standard output".
    """
    if isinstance(error, socket.gaierror):
        return UserError(f"A host's name cannot be resolved: {error.strerror}. Check it in the address.")
    if error.errno is None:
        return UserError(str(error))
    names = [shortened(str(name)) for name in (error.filename, error.filename2) if name is not None]
    names = [stream] if stream else names or [shortened(name) for name in _written(error)][:1]
    where = f"{' and '.join(names)}: " if names else ""
    return UserError(f"{where}{os.strerror(error.errno)} (error {error.errno} of the operating system). "
                     f"{_MENDS.get(error.errno, _OTHER)}.")


def mend(error: BaseException) -> str:
    """What to do about the system's error that an error came of, as a sentence; about a full disk where there
    is none, as libraries wrap it in words of their own."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.errno):
        cause = cause.__cause__ or cause.__context__
    return _MENDS.get(cause.errno, _OTHER) + "." if cause is not None else _FULL + "."


def _written(error: BaseException) -> Iterator[str]:
    """Names of the files that were open for writing where it was raised, the innermost first: the system
    names a file when it is opened, but not when it is written to."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    for frame in reversed(frames):
        held = getattr(frame.f_locals.get("self"), "__dict__", {})
        for value in [*frame.f_locals.values(), *held.values()]:
            name = getattr(value, "name", None) if isinstance(value, io.IOBase) else None
            if isinstance(name, (str, os.PathLike)) and set("wax+") & set(getattr(value, "mode", "")):
                yield str(name)
