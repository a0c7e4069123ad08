"""How often somebody may try to log in."""
import collections
import threading
import time
from collections.abc import Callable

MOST = 10               # wrong tokens from one address within the span
MOST_OF_ALL = 120       # from all addresses together
SPAN = 60.0             # seconds
ADDRESSES = 1000        # that are remembered; of the longest unheard-of nothing is


class Attempts:
    """Counts wrong tokens, by address and all together, over a span of time. Any thread may call it.

    Args:
      clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._all: collections.deque[float] = collections.deque(maxlen=MOST_OF_ALL)
        self._by_address: collections.OrderedDict[str, collections.deque[float]] = collections.OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0: it may now."""
        with self._lock:
            own = self._by_address.get(address, ())
            return max(self._left(own, MOST), self._left(self._all, MOST_OF_ALL))

    def failed(self, address: str) -> None:
        """One has tried in vain."""
        with self._lock:
            now = self._clock()
            self._all.append(now)
            self._by_address.setdefault(address, collections.deque(maxlen=MOST)).append(now)
            self._by_address.move_to_end(address)
            if len(self._by_address) > ADDRESSES:
                self._by_address.popitem(last=False)

    def _left(self, times: collections.deque[float] | tuple[()], most: int) -> float:
        return max(0.0, times[0] + SPAN - self._clock()) if len(times) >= most else 0.0
