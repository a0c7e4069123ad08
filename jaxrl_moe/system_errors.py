"""What an error of the operating system, or of code that is not ours, means to whoever started us."""
import errno
import os
import pathlib
import re
import traceback

from jaxrl_moe.types import UserError

_FORBIDDEN = "Check who may read and write there, or give another path"
_FULL = "Free some space"
_MENDS = {
    errno.ENOENT: "Check the path", errno.EACCES: _FORBIDDEN, errno.EPERM: _FORBIDDEN, errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL}


def system_error(error: OSError) -> UserError:
    """The same error with its mend; text that a library wrote stays as it is."""
    if error.errno is None:
        return UserError(str(error))
    names = [repr(str(name)) for name in (error.filename, error.filename2) if name is not None]
    where = f"{' and '.join(names)}: " if names else ""
    mend = _MENDS.get(error.errno, "Check the path, its permissions and the free space")
    return UserError(f"{where}{os.strerror(error.errno)} (error {error.errno} of the operating system). "
                     f"{mend}, then give the same command again; a run goes on from its newest checkpoint.")


def first_sentence(error: BaseException) -> str:
    """What a library's error says first, ending in one full stop; libraries append advice, requests' numbers
    and stacks, which would bury our own."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not re.search(r"Request ID|^Traceback", line)]
    line = (told or [type(error).__name__])[0]
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", line)[0].rstrip(" .,:;") + "."


def crash(error: BaseException) -> str:
    """An exception of others' code for a message: its class, its text, and the file and line that it comes
    from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({pathlib.Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {text}' if text else ''}{where}"
