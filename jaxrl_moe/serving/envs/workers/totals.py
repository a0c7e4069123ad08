"""Numbers in Prometheus' text format, summed over workers; what a worker counted before it ended stays
counted."""
import collections
from collections.abc import Mapping, Sequence

Counts = collections.Counter[str]  # {metric with its labels: value}


class Totals:
    """Of workers that may end and be replaced, as far as their counters were looked at before."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, Counts]] = {}  # by worker: in which of its lives, what
        self._ended: Counts = collections.Counter()

    def summed(self, texts: Mapping[int, str], lives: Sequence[int]) -> list[str]:
        """The lines that the texts of workers, by their numbers, come to.

        Args:
          lives: how often each worker has been replaced by now.
        """
        comments: dict[str, list[str]] = {}
        values = {number: _values(text, comments) for number, text in texts.items()}
        self._keep(values, lives)
        sums = collections.Counter(self._ended)
        for number, (_, counters) in self._seen.items():
            sums.update(values.get(number, counters))  # what was seen of one that does not answer now
        return [line for name in comments for line in
                comments[name] + [f"{series} {sums[series]}" for series in _of(sums, name)]]

    def _keep(self, values: Mapping[int, Counts], lives: Sequence[int]) -> None:
        """Notes the counters, and of workers that were replaced since the last look those of before."""
        for number, life in enumerate(lives):
            before, counters = self._seen.get(number, (life, collections.Counter()))
            if before != life:
                self._ended.update(counters)
                counters = collections.Counter()
            found = values.get(number, {})
            fresh = {series: value for series, value in found.items() if _name(series).endswith("_total")}
            self._seen[number] = life, collections.Counter(fresh) if found else counters


def _values(text: str, comments: dict[str, list[str]]) -> Counts:
    """The values of a text; its comments are added where they are not there yet."""
    found: Counts = collections.Counter()
    for line in text.splitlines():
        if line.startswith("#"):
            of = comments.setdefault(line.split(" ")[2], [])
            of += [line] * (line not in of)
        else:
            series, _, value = line.rpartition(" ")
            found[series] += int(value) if value.isdigit() else float(value)
    return found


def _name(series: str) -> str:
    return series.partition("{")[0]


def _of(counts: Counts, name: str) -> list[str]:
    return sorted(series for series in counts if _name(series) == name)
