"""Which of several files each draw is from: in the shares of their weights, at every point as nearly as whole
numbers can be, and without chance."""
import math
from collections.abc import Mapping
from fractions import Fraction


class Mixing:
    """Draws from files of these weights.

    Of the first n draws, the first file has its share of n, rounded to the nearest whole number; of what is
    left the second one has its share of the rest, and so on. So two files are never more than half a draw
    from their shares, k files never more than (k - 1) / 2, and none at all after each multiple of the sum of
    the weights as whole numbers. Any draw is found without those before it.

    Args:
      weights: {name: above 0}.
    """

    def __init__(self, weights: Mapping[str, Fraction]):
        scale = math.lcm(*(weight.denominator for weight in weights.values()))
        whole = {name: int(weight * scale) for name, weight in weights.items()}
        common = math.gcd(*whole.values())
        self._whole = {name: weight // common for name, weight in whole.items()}

    @property
    def text(self) -> str:
        """The weights as whole numbers."""
        return ",".join(f"{name}={weight}" for name, weight in self._whole.items())

    def counts(self, drawn: int) -> list[int]:
        """How many of the first `drawn` are from each file."""
        counts = []
        left = drawn
        weighed = sum(self._whole.values())
        for weight in self._whole.values():
            counts.append((2 * left * weight + weighed) // (2 * weighed))
            left -= counts[-1]
            weighed -= weight
        return counts

    def draw(self, number: int) -> tuple[int, int]:
        """(position of the file, number of the draw among those of the file), both from 0."""
        before = self.counts(number)
        after = self.counts(number + 1)
        file = next(place for place, (was, now) in enumerate(zip(before, after)) if now > was)
        return file, before[file]
