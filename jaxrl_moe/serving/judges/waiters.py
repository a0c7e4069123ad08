"""Who waits for which item, so that people are spared what nobody waits for."""
import collections
import time
from collections.abc import Callable

SILENT_SECONDS = 600.0  # after which a client that asks no more has gone; living ones ask twice a minute
MOST = 10_000           # items from which those of clients who have gone are forgotten


class ItemWaiters:
    """Clients by the items that they asked for last. It knows nothing of what was before its process: a
    client is there again with its next question, and hands in again what was dropped meanwhile.

    Args:
      clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._seen: dict[str, dict[str, float]] = collections.defaultdict(dict)

    def wait(self, item: str, client: str) -> None:
        """A client asks for an item; those without a name of their own count as one."""
        self._seen[item][client] = self._clock()
        if len(self._seen) > MOST:
            self._forget_silent()

    def leave(self, item: str, client: str) -> bool:
        """A client waits no more; whether it was the last one."""
        self._seen.get(item, {}).pop(client, None)
        since = self._clock() - SILENT_SECONDS
        if any(seen > since for seen in self._seen.get(item, {}).values()):
            return False
        self.forget(item)
        return True

    def forget(self, item: str) -> None:
        """There is nothing to wait for any more."""
        self._seen.pop(item, None)

    def __len__(self) -> int:
        return len(self._seen)

    def _forget_silent(self) -> None:
        since = self._clock() - SILENT_SECONDS
        for item, clients in list(self._seen.items()):
            if max(clients.values(), default=since) <= since:
                del self._seen[item]
