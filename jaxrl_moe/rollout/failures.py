"""The accounts of episodes whose environments failed: how many, of which kind, and when it is too much."""
import collections
import math
from collections.abc import Mapping

from jaxrl_moe.config import EpisodesSection
from jaxrl_moe.types import Status, UserError

FAILURES = tuple(status for status in Status if not status.trusted)
Tries = Mapping[tuple[Status, str], int]  # of episodes: how many ended so and, of failures, with this message


class EpisodesError(UserError):
    """So many episodes fail that the run cannot go on."""


class Failures:
    """Counts tries of episodes, and refuses to go on where too many of the last ones failed. Not
    thread-safe.

    Args:
      settings: how many may fail, and of how many.
      at_once: episodes that may be open at the same time. A server that dies takes all of them along, and
        where it is started again that is no reason to stop: so many failures stay within max_error_rate,
        however few tries error_window says.
    """

    def __init__(self, settings: EpisodesSection, at_once: int):
        self._settings = settings
        limit = settings.max_error_rate
        self._window = max(settings.error_window, math.ceil(at_once / limit) if limit else 0)
        self._most = max(limit * self._window, at_once) if limit else 0  # of them; the product may be rounded
        self._last: collections.deque[tuple[Status, str]] = collections.deque(maxlen=self._window)
        self._failed = 0  # of the last
        self._tries: collections.Counter[tuple[Status, str]] = collections.Counter()

    def note(self, status: Status, message: str = "") -> None:
        """A try ended.

        Raises:
          EpisodesError: too many of the last tries failed.
        """
        if len(self._last) == self._window:
            self._failed -= not self._last[0][0].trusted
        self._last.append((status, message))
        self._failed += not status.trusted
        self._tries[status, message] += 1
        if len(self._last) < self._settings.error_window or self._failed <= self._most:
            return
        told = failures_told(collections.Counter(self._last))
        raise EpisodesError(
            f"More of the last {self._window} tries of an episode failed than episodes.max_error_rate = "
            f"{self._settings.max_error_rate:g} allows. {told} Mend that, or raise episodes.max_error_rate, "
            "and start the run again: it goes on from its last step.")

    def take(self) -> Tries:
        """The tries since the last call."""
        tries = self._tries
        self._tries = collections.Counter()
        return tries


def by_status(tries: Tries) -> collections.Counter[Status]:
    """How many ended so."""
    counts: collections.Counter[Status] = collections.Counter()
    for (status, _), count in tries.items():
        counts[status] += count
    return counts


def failures_told(tries: Tries) -> str:
    """How many failed, of which kinds, and the commonest message of the commonest kind; empty where none
    did."""
    failed = {key: count for key, count in tries.items() if not key[0].trusted}
    if not failed:
        return ""
    kinds = by_status(failed).most_common()
    kind, count = kinds[0]
    message, times = max(((message, times) for (status, message), times in failed.items() if status == kind),
                         key=lambda pair: pair[1])
    told = ", ".join(f"{name}: {number}" for name, number in kinds)
    return (f"{sum(failed.values())} of {sum(tries.values())} tries failed ({told}). The commonest message "
            f"of {kind}, {times} of {count}: {message}{'.' * (not message.endswith('.'))}")


def failure_metrics(tries: Tries) -> dict[str, float]:
    """episodes/failed_frac, the share of the tries whose environment failed, and episodes/STATUS_frac for
    each kind of failure; empty where nothing was tried."""
    counts = by_status(tries)
    total = counts.total()
    if not total:
        return {}
    shares = {f"episodes/{status}_frac": counts[status] / total for status in FAILURES}
    return {"episodes/failed_frac": sum(shares.values())} | shares
