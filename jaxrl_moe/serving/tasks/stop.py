"""How a rollout is ended from outside."""
import threading
from collections.abc import Callable


class Stopped(Exception):
    """Nobody waits for the rollout any more."""


class Stop:
    """Ends what a rollout has open, at once and in whatever thread it is at work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: list[Callable[[], None]] = []
        self.stopped = False

    def hold(self, end: Callable[[], None]) -> None:
        """Calls a function once the rollout is stopped; at once, if it is by now."""
        with self._lock:
            self._ends.append(end)
            stopped = self.stopped
        if stopped:
            end()

    def stop(self) -> None:
        """Ends everything; a second time it does nothing."""
        with self._lock:
            ends = [] if self.stopped else self._ends
            self.stopped = True
        for end in ends:
            end()

    def check(self) -> None:
        """Raises Stopped, once the rollout is."""
        if self.stopped:
            raise Stopped
