"""A browser that is shut in: it finds an empty network, its own programs and fonts to read, and some memory
to write to. Its own sandbox is on within."""
import os
import pathlib
from collections.abc import Sequence

from jaxrl_moe.sandbox.readable import libraries
from jaxrl_moe.sandbox.records import Bounds, Cell
from jaxrl_moe.sandbox.shut_in import ShutIn
from jaxrl_moe.sandbox.working import working_way
from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import UserError

BROWSERS = ("/usr/lib/chromium/chromium", "/usr/lib64/chromium-browser/chromium-browser",
            "/usr/lib/chromium-browser/chromium-browser", "/opt/google/chrome/chrome")
MEMORY_MIB = 2048  # of data that each of its processes may have
_FONTS = ("/usr/share/fonts", "/usr/share/fontconfig", "/usr/local/share/fonts", "/etc/fonts",
          "/var/cache/fontconfig")
_MEND = ("Install Debian's packages `bubblewrap` and `chromium`, or serve the task that needs neither: "
         "--name=agora_ex_text.")


def browser_path(named: str = "") -> pathlib.Path:
    """The browser's program itself, not a script that starts it.

    Args:
      named: its path; empty: it is sought where packages put it.

    Raises:
      UserError: there is none, or nothing to shut it in.
    """
    places = (named,) if named else BROWSERS
    path = next((pathlib.Path(each).resolve() for each in places if os.access(each, os.X_OK)), None)
    if path is None or not path.is_file():
        raise UserError(f"Pages are shown by Chromium, which is not at {' or '.join(places)}. {_MEND}")
    if path.open("rb").read(4) != b"\x7fELF":
        raise UserError(f"{quoted(str(path))} is a script: name the program that it starts. {_MEND}")
    try:
        working_way()
    except UserError as error:
        raise UserError(f"Pages are shown in a sandbox. {error} {_MEND}") from error
    return path


def shut_in(program: pathlib.Path, options: Sequence[str], seconds: float, reading: int,
            writing: int) -> ShutIn:
    """A program in the browser's sandbox, whose third and fourth descriptors are two of this process."""
    shown = [*libraries(), *filter(os.path.exists, _FONTS), str(program.parent)]
    cell = Cell(tuple(shown), environment={"HOME": "/tmp", "LANG": "C.UTF-8"}, nests=True)
    bounds = Bounds(memory_mib=2 * MEMORY_MIB, process_mib=MEMORY_MIB, processes=1024, seconds=seconds,
                    open_files=4096)
    return ShutIn([str(program), *options], cell, bounds, working_way(), given=b"", keep_output=True,
                  descriptors={3: reading, 4: writing})
