"""Waits for items: one thread of a process looks for all that are waited for."""
import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence

POLL_SECONDS = 0.5  # between two looks


class Lookout:
    """Looks at items while anybody waits for one. Any thread may call it.

    Args:
      settled: of items, those of which there is something to say; called in a thread of its own. Whatever
        it raises, all who wait look themselves.
    """

    def __init__(self, settled: Callable[[Sequence[str]], Collection[str]]):
        self._settled = settled
        self._lock = threading.Lock()
        self._looking = False
        self._waiters: dict[str, set[threading.Event]] = {}

    def wait(self, item: str, seconds: float) -> None:
        """Returns once an item is settled, or after so many seconds; now and then for no reason."""
        with self._waiter(item) as event:
            event.wait(seconds)

    @contextlib.contextmanager
    def _waiter(self, item: str) -> Iterator[threading.Event]:
        event = threading.Event()
        with self._lock:
            self._waiters.setdefault(item, set()).add(event)
            if not self._looking:
                threading.Thread(target=self._look, name="queue lookout", daemon=True).start()
                self._looking = True
        try:
            yield event
        finally:
            with self._lock:
                self._waiters[item].discard(event)
                if not self._waiters[item]:
                    del self._waiters[item]

    def _look(self) -> None:
        try:
            while items := self._waited():
                self._wake(self._settled(items))
                time.sleep(POLL_SECONDS)
        except BaseException:  # they look themselves, and meet what went wrong
            with self._lock:
                self._looking = False
                everybody = list(self._waiters)
            self._wake(everybody)
            raise

    def _waited(self) -> list[str]:
        """What is waited for; where it is nothing, the thread is no longer counted on."""
        with self._lock:
            self._looking = bool(self._waiters)
            return list(self._waiters)

    def _wake(self, items: Collection[str]) -> None:
        with self._lock:
            for item in items:
                for event in self._waiters.get(item, ()):
                    event.set()
