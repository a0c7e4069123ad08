"""The accounts of episodes whose environments failed: how many, of which kind, and when it is too much."""
import collections
from collections.abc import Mapping

from jaxrl_moe.config import EpisodesSection
from jaxrl_moe.types import Status, UserError

FAILURES = tuple(status for status in Status if not status.trusted)


class EpisodesError(UserError):
    """So many episodes fail that the run cannot go on."""


class Failures:
    """Counts tries of episodes, and refuses to go on where too many of the last ones failed. Not
    thread-safe."""

    def __init__(self, settings: EpisodesSection):
        self._settings = settings
        self._last: collections.deque[tuple[Status, str]] = collections.deque(maxlen=settings.error_window)
        self._tries: collections.Counter[Status] = collections.Counter()

    def note(self, status: Status, message: str = "") -> None:
        """A try ended.

        Raises:
          EpisodesError: too many of the last error_window tries failed.
        """
        self._tries[status] += 1
        self._last.append((status, message))
        failed = [each for each in self._last if not each[0].trusted]
        limit = self._settings.max_error_rate
        if len(self._last) < self._settings.error_window or len(failed) <= limit * len(self._last):
            return
        (status, message), times = collections.Counter(failed).most_common(1)[0]
        kinds = collections.Counter(each[0].value for each in failed)
        raise EpisodesError(
            f"Of the last {len(self._last)} tries of an episode {len(failed)} failed "
            f"({', '.join(f'{name}: {count}' for name, count in kinds.most_common())}), more than "
            f"episodes.max_error_rate = {limit:g} allows. The commonest, {times} times: {message} Mend that, "
            "or raise episodes.max_error_rate, and start the run again: it goes on from its last step.")

    def take(self) -> Mapping[Status, int]:
        """The tries since the last call, by how they ended."""
        tries = self._tries
        self._tries = collections.Counter()
        return tries


def failure_metrics(tries: Mapping[Status, int]) -> dict[str, float]:
    """episodes/failed_frac, the share of the tries whose environment failed, and episodes/STATUS_frac for
    each kind of failure; empty where nothing was tried."""
    total = sum(tries.values())
    if not total:
        return {}
    shares = {f"episodes/{status}_frac": tries.get(status, 0) / total for status in FAILURES}
    return {"episodes/failed_frac": sum(shares.values())} | shares
