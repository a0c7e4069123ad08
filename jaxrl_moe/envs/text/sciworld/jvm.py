"""A Java process that runs ScienceWorld: started with bounds on its memory, and gone when this process is."""
import dataclasses
import importlib.util
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import IO

from jaxrl_moe.envs.text.sciworld.gateway import Gateway, GatewayError, Reference, static
from jaxrl_moe.types import UserError

INTERFACE = "scienceworld.runtime.pythonapi.PythonInterface"
LEAST_MB = 64      # of heap; with less the game does not begin
METASPACE_MB = 96  # classes take 60
CODE_MB = 64       # compiled code takes 30
JAVA = "Install Java 8 or later, on Debian and Ubuntu by apt-get install openjdk-17-jre-headless."


@dataclasses.dataclass(frozen=True)
class JvmOptions:
    """heap_mb: most megabytes of a process's heap; timeout: seconds that a start or a call may take."""
    heap_mb: int
    timeout: float

    @property
    def bound_mb(self) -> int:
        """Megabytes that a process stays below: heap, classes, code, and 100 for threads, compilers and the
        Java machine's own."""
        return self.heap_mb + METASPACE_MB + CODE_MB + 100


class Jvm:
    """A process with one game, and the connection to it. One thread uses it at a time; kill() may come from
    another.

    Attributes:
      pid: of the process.
      game: what is called of Java's side.
      gateway: the connection.

    Raises:
      UserError: Java or a package is missing here, or the process does not begin.
      TimeoutError: it does not begin in time.
    """

    def __init__(self, options: JvmOptions):
        command = _command(options)
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
        with tempfile.TemporaryFile() as errors:
            # It ends when its input does, however this process ends; a Ctrl-C is for this process alone. It
            # reads object_type_ids.tsv in its folder, and where that is not there writes it anew.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
                cwd=pathlib.Path(_jars()[1]).parent, start_new_session=True)
            self.pid = self._process.pid
            self._door = threading.Lock()
            try:
                self.gateway = self._connected(options.timeout)
                self.game = self._begun()
            except TimeoutError:
                self.kill()
                raise
            except (OSError, GatewayError) as error:
                self.kill()
                errors.seek(0)
                said = errors.read(2000).decode(errors="replace")
                raise UserError(_no_start(said, error)) from error
            except BaseException:
                self.kill()
                raise

    @property
    def lives(self) -> bool:
        """Whether the process runs."""
        with self._door:
            return self._process.poll() is None

    def kill(self) -> None:
        """Ends the process at once, and waits for its end; a second time it does nothing."""
        with self._door:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None and not stream.closed:
                    stream.close()

    def _connected(self, timeout: float) -> Gateway:
        end = time.monotonic() + timeout
        port, token = (_line(self._process.stdout, end) for _ in range(2))
        if not port.isdigit():
            raise GatewayError(f"{port}. {token}")
        return Gateway(int(port), token, timeout)

    def _begun(self) -> Reference:
        """The game; what it prints of every step goes nowhere."""
        nowhere = self.gateway.make("java.io.PrintStream", os.devnull)
        for stream in ("setOut", "setErr"):
            self.gateway.call(static("java.lang.System"), stream, nowhere)
        return self.gateway.make(INTERFACE)


def check_installed() -> None:
    """Raises UserError where Java or a package is missing here."""
    _jars()
    _java()


def _command(options: JvmOptions) -> Sequence[str]:
    # Java's sets of objects are in the order of their hash codes, by default random numbers. Where all have
    # the same, the order is that in which they were put in: a game shows what it shows in every process, as
    # often as it is played there.
    same_order = ("-XX:+UnlockExperimentalVMOptions", "-XX:hashCode=2")
    bounds = (f"-Xmx{options.heap_mb}m", f"-XX:MaxMetaspaceSize={METASPACE_MB}m",
              f"-XX:ReservedCodeCacheSize={CODE_MB}m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError",
              "-XX:-UsePerfData")
    server = ("py4j.GatewayServer", "--die-on-broken-pipe", "--enable-auth", "0")
    return (_java(), *bounds, *same_order, "-classpath", os.pathsep.join(_jars()), *server)


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=os.path.join(home, "bin")) if home else None
    found = found or shutil.which("java")
    if found is None:
        raise UserError(f"ScienceWorld runs in Java, and there is no command java here. {JAVA}")
    return found


def _jars() -> Sequence[str]:
    """The packages' Java side: py4j's own first, since the game's has an older one in it, without tokens."""
    game = importlib.util.find_spec("scienceworld")
    bridge = importlib.util.find_spec("py4j")
    if game is None or bridge is None:
        missing = "scienceworld" if game is None else "py4j"
        raise UserError(f"There is no package {missing} here. Install the extra `agents`: "
                        "pip install 'jaxrl-moe[agents]'.")
    from py4j.java_gateway import find_jar_path
    return find_jar_path(), str(pathlib.Path(game.origin or "").parent / "scienceworld.jar")


def _line(stream: IO[bytes] | None, end: float) -> str:
    """The next line of a pipe; raises TimeoutError, or OSError where it has ended."""
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([stream], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise TimeoutError("The Java process did not begin in time.")
        byte = os.read(stream.fileno(), 1)
        if not byte:
            raise OSError("its output has ended")
        line += byte
    return line.decode("utf-8", "replace").strip()


def _no_start(said: str, error: Exception) -> str:
    lines = [line for line in said.splitlines() if not line.startswith("Picked up ")]
    told = " ".join(f"{error} {' '.join(lines)}".split()).rstrip(".")
    return (f"The Java process of ScienceWorld did not begin: {told}. Look at the setting jvm_mb and at the "
            f"memory of this machine. {JAVA}")
