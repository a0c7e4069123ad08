"""How far the making of a file is, and what was left out."""
import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxrl_moe.runs.console import Console

LINES = 20  # about the progress, where there is no terminal


class Tally:
    """How many episodes have succeeded, and why the others have not.

    Args:
      wanted: how many are to succeed.
      rows: what was played before.
    """

    def __init__(self, wanted: int, rows: Sequence[Mapping[str, Any]] = ()):
        self.wanted = wanted
        self.done = 0
        self.in_a_row = 0  # rejected ones, since the last success
        self.rejected: Counter[str] = Counter()
        for row in rows:
            self.add(row)

    @property
    def enough(self) -> bool:
        return self.done >= self.wanted

    def add(self, played: Mapping[str, Any]) -> None:
        """Counts one; nothing where there are enough."""
        if self.enough:
            return
        self.done += not played["rejected"]
        self.in_a_row = self.in_a_row + 1 if played["rejected"] else 0
        if played["rejected"]:
            self.rejected[played["rejected"]] += 1

    @contextlib.contextmanager
    def shown(self) -> Iterator[Callable[[], None]]:
        """Shows a bar in a terminal, else some lines; yields what brings it up to date."""
        console = Console("Episodes", self.wanted, self.done)
        live = sys.stdout.isatty()
        told = self.done

        def show() -> None:
            nonlocal told
            if live or self.enough or self.done >= told + max(1, self.wanted // LINES):
                told = self.done
                console.write(self.done, {"demonstrations/rejected": self.rejected.total()})
        try:
            yield show
        finally:
            console.close()


def reasons(rejected: Counter[str]) -> str:
    """Why episodes were rejected, as "3 rejected (2 not done in 20 turns, 1 ...)"; "none rejected"."""
    told = ", ".join(f"{count} {why}" for why, count in rejected.most_common())
    return f"{rejected.total()} rejected ({told})" if rejected else "none rejected"
