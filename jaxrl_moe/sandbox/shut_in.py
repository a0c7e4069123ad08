"""Programs that are shut in: one to talk with, or one that is run to its end."""
import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any, Self

from jaxrl_moe.sandbox.identities import lent_uid
from jaxrl_moe.sandbox.life import Life
from jaxrl_moe.sandbox.pipes import Pipes
from jaxrl_moe.sandbox.records import Bounds, Cause, Cell, Exit
from jaxrl_moe.sandbox.ways import Way


class ShutIn:
    """A program in a sandbox, which ends with this process at the latest. Any thread may use it.

    Args:
      command: that starts it, as it is called inside.
      cell: what it finds there.
      bounds: what it may use.
      way: in which it is shut in; see working_way.
      given: its input, which ends then; None: the caller writes to `stdin`.
      keep_output: what it writes is kept for its Exit; else the caller reads it from `stdout`, and holds it
        to what it may be.
      descriptors: {number that it has there, such as 3: descriptor of this process}; the latter are above 9,
        and stay open here.

    Attributes:
      stdin, stdout: pipes, unbuffered, where they are the caller's.

    Raises:
      UserError: what shuts it in is not installed.
      OSError: it cannot be started.
    """
    stdin: IO[bytes]
    stdout: IO[bytes]

    def __init__(self, command: Sequence[str], cell: Cell, bounds: Bounds, way: Way, *,
                 given: bytes | None = None, keep_output: bool = False,
                 descriptors: Mapping[int, int] | None = None):
        self._given = given
        self._keep_output = keep_output
        self._life: Life | None = None
        self._result: Exit | BaseException | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True, name="sandbox",
                                        args=(command, cell, bounds, way, descriptors or {}))
        self._thread.start()
        self._started.wait()
        if self._life is None:
            raise self._result

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left."""
        return not self._thread.is_alive()

    def end(self) -> None:
        """Kills it at once, without waiting; where it has ended it does nothing."""
        self._life.kill(Cause.ASKED)

    def wait(self) -> Exit:
        """How it ended, when nothing of it is left.

        Raises:
          SandboxError: it has not begun.
        """
        self._thread.join()
        if isinstance(self._result, Exit):
            return self._result
        raise self._result

    def close(self) -> None:
        """Ends it, waits until nothing of it is left, and closes the pipes; a second time it does nothing."""
        self.end()
        self._thread.join()
        self.stdin.close()
        self.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _live(self, *asked: Any) -> None:
        """All of its life, in a thread of its own."""
        try:
            with lent_uid() as uid:
                command, cell, bounds, way, descriptors = asked
                life = Life(command, cell, bounds, way, uid, descriptors)
                with contextlib.closing(life):
                    self._result = self._watched(life, Pipes(bounds.output_bytes))
        except BaseException as error:  # which is for the threads that wait
            self._result = error
        finally:
            self._started.set()

    def _watched(self, life: Life, pipes: Pipes) -> Exit:
        self.stdin = life.process.stdin
        self.stdout = life.process.stdout
        self._life = life
        errors = pipes.keep(life.process.stderr)
        output = pipes.keep(self.stdout) if self._keep_output else bytearray()
        if self._given is not None:
            pipes.send(self.stdin, self._given)
        self._started.set()
        life.watch(pipes)
        return life.exit(bytes(output), bytes(errors))


def run(command: Sequence[str], cell: Cell, bounds: Bounds, way: Way, given: bytes = b"") -> Exit:
    """Runs a program to its end.

    Args: as ShutIn.

    Raises:
      UserError: what shuts it in is not installed.
      SandboxError: it has not begun.
    """
    with ShutIn(command, cell, bounds, way, given=given, keep_output=True) as program:
        return program.wait()
