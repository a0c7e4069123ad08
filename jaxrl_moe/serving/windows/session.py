"""A tmux session with a window for each program: the supervisor runs in the last program's, and the others
follow the logs."""
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence

from jaxrl_moe import log_files, partials
from jaxrl_moe.outside import Fields, read_json
from jaxrl_moe.serving.windows.program import Program
from jaxrl_moe.types import UserError

LOOK_SECONDS = 0.2
WAIT_SECONDS = 60.0  # until the supervisor has told that it is there


class Session:
    """A session on a tmux server of its own, so that its windows have this process's environment, and its end
    leaves nothing behind.

    Args:
      name: of the session, and of the server's socket.
      report: file that the supervisor writes its process and, at its end, its exit code to.

    Raises:
      UserError: tmux is not installed, or there is such a session already.
    """

    def __init__(self, name: str, report: pathlib.Path):
        self._name = name
        self._report = report
        if shutil.which("tmux") is None:
            raise UserError("tmux is not installed: install it (Debian's package tmux), or add --plain, "
                            "which needs none.")
        if self.alive:
            raise UserError(f"There is a session {name!r} already: attach to it by `{self.attach}`, end it, "
                            "or give this one another name by --session.")

    @property
    def attach(self) -> str:
        """The command that shows the windows."""
        return f"tmux -L {shlex.quote(self._name)} attach"

    @property
    def alive(self) -> bool:
        return self._tmux("has-session", "-t", self._name, check=False) == 0

    def start(self, programs: Sequence[Program], command: Sequence[str]) -> None:
        """Opens the windows; the last program's runs the supervisor's command."""
        self._report.parent.mkdir(parents=True, exist_ok=True)
        self._report.unlink(missing_ok=True)
        *others, last = programs
        self._tmux("new-session", "-d", "-s", self._name, "-n", last.name, "-c", os.getcwd(),
                   f"exec {shlex.join(command)}")
        process = self._process()
        if not process:
            raise UserError("The session ended before anything was started. Add --plain, which shows why.")
        for program in others:
            program.log.touch()
            self._tmux("new-window", "-d", "-n", program.name, "-t", self._name,
                       f"exec tail --pid={process} -n +1 -F {shlex.quote(str(program.log))}")

    def wait(self, interrupted: Callable[[], int]) -> int:
        """Waits for the supervisor; its exit code. `interrupted` gives the number of a signal that came,
        which goes on to it, or 0."""
        process = self._process()
        sent = 0
        while process and partials.runs(process):
            number = interrupted()
            if number and number != sent:
                sent = number
                os.kill(process, number)
            time.sleep(LOOK_SECONDS)
        code = self._told().integer("code", 1, most=255)  # without one it was killed
        self.close()
        return code

    def close(self) -> None:
        """Ends the windows, and their server."""
        self._tmux("kill-server", check=False)

    def _process(self) -> int:
        """The supervisor's, once it has told it; 0 where it ended before."""
        end = time.monotonic() + WAIT_SECONDS
        while not self._report.exists():
            if not self.alive or time.monotonic() > end:
                return 0
            time.sleep(LOOK_SECONDS)
        return self._told().integer("process")

    def _told(self) -> Fields:
        values = read_json(self._report) if self._report.exists() else {}
        return Fields(values, str(self._report))

    def _tmux(self, *arguments: str, check: bool = True) -> int:
        done = subprocess.run(["tmux", "-L", self._name, *arguments], capture_output=True, text=True,
                              check=False)
        if check and done.returncode:
            raise UserError(f"tmux {arguments[0]} failed: {done.stderr.strip()}. Add --plain, which needs no "
                            "tmux.")
        return done.returncode


def report(path: str | pathlib.Path, **values: int) -> None:
    """Writes what the supervisor tells; nothing where nobody reads it."""
    if path:
        log_files.replace(pathlib.Path(path), json.dumps({"process": os.getpid(), **values}).encode())
