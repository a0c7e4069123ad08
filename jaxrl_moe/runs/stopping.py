"""When a run ends before its last step: at SIGTERM, or at the end of its time."""
import contextlib
import enum
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator

from jaxrl_moe import begin
from jaxrl_moe.hosts import hosts


class Ending(enum.Enum):
    """How a run, or a phase of it, ended; true where all steps are done. In any case what was done is saved.
    """
    DONE = "done"
    STOPPED = "Stopped by SIGTERM"
    OUT_OF_TIME = "Stopped before the next step would have gone beyond train.max_minutes"

    def __bool__(self) -> bool:
        return self is Ending.DONE

    @property
    def code(self) -> int:
        """Exit code of the command: 75, as sysexits.h has it for what is to be tried again, where its time
        was over."""
        return 75 if self is Ending.OUT_OF_TIME else 0

    def sentence(self, run_dir: str) -> str:
        """Of a run that is to go on."""
        return f"{self.value}; all is saved in {run_dir}. Give the same command again to go on."

    def tell(self, run_dir: str) -> None:
        """Says so where the run is to go on, and ends the process where its exit code is not 0."""
        if not self:
            print(self.sentence(run_dir), flush=True)
        if self.code:
            sys.exit(self.code)


class StopSignal:
    """True once the run is to end: the loop then finishes its step, saves and returns. All processes must ask
    together; what one of them finds counts for all.

    Either a process of the job got SIGTERM, or the next step would not be done in time, if it takes as long
    as the longest before it. The first step, which compiles, counts until there is another. The clock is
    asked once a step, so that the step which turns out to be the last is saved.

    Args:
      minutes: that the command may take, from its start; 0: any.
      clock: seconds, as those of begin.BEGAN.
    """

    def __init__(self, minutes: float = 0.0, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._until = begin.BEGAN + 60 * minutes if minutes else math.inf
        self._got = False
        self._late: bool | None = None
        self._began: float | None = None
        self._steps = 0
        self._longest = 0.0

    def terminated(self) -> bool:
        """Whether SIGTERM came."""
        self._got = hosts.raised("stop", self._got)
        return self._got

    @property
    def ending(self) -> Ending:
        """Of a run that this ended."""
        return Ending.OUT_OF_TIME if self._late and not self._got else Ending.STOPPED

    def next_step(self) -> None:
        """To be called before every step."""
        now = self._clock()
        if self._began is not None:
            self._longest = self._longest_with(now)
            self._steps += 1
        self._began = now
        self._late = None

    def at_once(self) -> bool:
        """Whether the step at work is to be left, which may wait for others: of it nothing is kept."""
        if self._clock() > self._until:
            self._late = True
        return self._raised()

    def __bool__(self) -> bool:
        if self._late is None:
            now = self._clock()
            self._late = now + self._longest_with(now) > self._until
        return self._raised()

    def _longest_with(self, now: float) -> float:
        """Seconds of the longest step, the one at work with what it has taken by now."""
        current = 0.0 if self._began is None else now - self._began
        return current if self._steps == 1 else max(self._longest, current)

    def _raised(self) -> bool:
        terminated = self.terminated()
        if self._until < math.inf:
            self._late = hosts.raised("late", bool(self._late)) or self._late
        return terminated or bool(self._late)

    @contextlib.contextmanager
    def listen(self) -> Iterator["StopSignal"]:
        """Hears SIGTERM within the block."""
        before = signal.signal(signal.SIGTERM, self._handle)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)

    def _handle(self, *_: object) -> None:
        self._got = True
