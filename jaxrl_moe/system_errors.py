"""What an error of the operating system means to whoever started us."""
import errno
import os
import pathlib
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


def crash(error: BaseException) -> str:
    """An exception of others' code for a message: its class, its text, and the file and line that it comes
    from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({pathlib.Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {text}' if text else ''}{where}"
