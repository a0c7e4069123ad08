"""Java processes that games take turns in. There are so many and no more; each holds one game at a time, and
a game that lost its process to another begins anew in the next, see game.py."""
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Iterator

from jaxrl_moe.envs.text.sciworld.gateway import GatewayError, JavaFailure
from jaxrl_moe.envs.text.sciworld.jvm import Jvm, JvmOptions
from jaxrl_moe.types import EnvError, Status, UserError


@dataclasses.dataclass(eq=False)
class Seat:
    """A process, and whose game it holds; None: nobody's. `used`: when, by the monotonic clock."""
    jvm: Jvm
    holder: Hashable | None = None
    busy: bool = True
    used: float = 0.0


class Pool:
    """At most `size` processes, started as they are needed. Any thread may take one for a call.

    Args:
      size: most processes.
      options: of each.
      start: makes one.

    Attributes:
      started: processes up to now.
      lost: those that died, or were killed as they did not answer.
      moves: times that a holder came to a process that did not hold its game.
    """

    def __init__(self, size: int, options: JvmOptions, start: Callable[[JvmOptions], Jvm] = Jvm):
        self.started = 0
        self.lost = 0
        self.moves = 0
        self._size = size
        self._options = options
        self._start = start
        self._seats: set[Seat] = set()
        self._starting = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def pids(self) -> list[int]:
        """Of the processes that there are."""
        with self._changed:
            return [seat.jvm.pid for seat in self._seats]

    @contextlib.contextmanager
    def seat(self, holder: Hashable) -> Iterator[Seat]:
        """A process for one call of a holder: where it was the last time, if nobody else was there since. The
        block says by `seat.holder` whose game it leaves there.

        Raises:
          EnvError: all are at work for too long, or the one that was taken died or did not answer.
          UserError: the pool is closed, or no process can be started.
        """
        seat = self._take(holder)
        self.moves += seat.holder is not holder
        try:
            yield seat
        except (GatewayError, OSError) as error:
            if isinstance(error, JavaFailure):
                seat.holder = None
                raise
            self._drop(seat)
            raise self._failure(error) from error
        except BaseException:
            seat.holder = None
            raise
        finally:
            self._give_back(seat)

    def warm(self) -> None:
        """Starts a process, if there is none.

        Raises:
          UserError, EnvError: none can be started.
        """
        with self.seat(None):
            pass

    def leave(self, holder: Hashable) -> None:
        """The holder has no game any more."""
        with self._changed:
            for seat in self._seats:
                if seat.holder is holder:
                    seat.holder = None

    def close(self) -> None:
        """Kills all processes; calls that are at work fail. A second time it does nothing."""
        with self._changed:
            self._closed = True
            seats = list(self._seats)
            self._seats.clear()
            self._changed.notify_all()
        for seat in seats:
            seat.jvm.kill()

    def _take(self, holder: Hashable) -> Seat:
        end = time.monotonic() + self._options.timeout
        with self._changed:
            while not self._closed:
                seat = self._best(holder)
                if seat is not None:
                    seat.busy = True
                    return seat
                if len(self._seats) + self._starting < self._size:
                    self._starting += 1
                    break
                if not self._changed.wait(end - time.monotonic()):
                    raise EnvError(Status.TIMED_OUT, f"All {self._size} Java processes of ScienceWorld were "
                                   f"at work for {self._options.timeout:g} s: raise the setting jvms.")
            else:
                raise UserError("The task is closed: it plays no more.")
        return self._new()

    def _best(self, holder: Hashable) -> Seat | None:
        """An idle process: the holder's own, or nobody's, or, where no further one may be started, that which
        was left alone for the longest time. None: there is none."""
        for seat in [seat for seat in self._seats if not seat.busy and not seat.jvm.lives]:
            self._seats.remove(seat)
            self.lost += 1
        idle = [seat for seat in self._seats if not seat.busy]
        for seat in idle:
            if seat.holder is holder:
                return seat
        free = [seat for seat in idle if seat.holder is None]
        full = len(self._seats) + self._starting >= self._size
        return min(free or (idle if full else []), key=lambda seat: seat.used, default=None)

    def _new(self) -> Seat:
        try:
            jvm = self._start(self._options)
        except TimeoutError as error:
            raise EnvError(Status.TIMED_OUT, "A Java process of ScienceWorld did not begin within "
                           f"{self._options.timeout:g} s.") from error
        finally:
            with self._changed:
                self._starting -= 1
                self._changed.notify_all()
        seat = Seat(jvm)
        with self._changed:
            self.started += 1
            if not self._closed:
                self._seats.add(seat)
                return seat
        jvm.kill()
        raise UserError("The task is closed: it plays no more.")

    def _give_back(self, seat: Seat) -> None:
        with self._changed:
            seat.busy = False
            seat.used = time.monotonic()
            self._changed.notify_all()

    def _drop(self, seat: Seat) -> None:
        seat.jvm.kill()
        with self._changed:
            self.lost += seat in self._seats
            self._seats.discard(seat)

    def _failure(self, error: Exception) -> EnvError:
        if isinstance(error, TimeoutError):
            return EnvError(Status.TIMED_OUT, "A Java process of ScienceWorld did not answer within "
                            f"{self._options.timeout:g} s, and was ended.")
        return EnvError(Status.STEP_FAILED, f"A Java process of ScienceWorld has died: {error}.")
