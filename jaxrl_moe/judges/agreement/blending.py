"""What people and a model say of a work, as one reward.

The model counts as so many judges as it agrees with people, by Cohen's kappa k between them:

    reward = (K * people + k * model) / (K + k),    k = max(0, kappa) * n / (n + PRIOR)

where K judges came to the people's mean, and kappa was measured on n units, which shrink it towards 0 while
they are few. A model that agrees like another judge counts like one; one that agrees no better than chance
counts nothing, and then people are alone.
"""
import dataclasses
import math
from collections.abc import Sequence

from jaxrl_moe.judges.agreement.kappa import binned, cohen

PRIOR = 20       # units that count as if the model had agreed on them by chance
LEAST_PAIRS = 20  # of which a calibration is made


@dataclasses.dataclass(frozen=True)
class Measured:
    """How a model compares with people so far.

    Attributes:
      kappa: with people's verdicts; 0 where there is nothing to measure.
      units: that both judged.
      slope, offset: of the line from the model's scores to people's.
    """
    kappa: float = 0.0
    units: int = 0
    slope: float = 1.0
    offset: float = 0.0

    @property
    def weight(self) -> float:
        """As how many judges the model counts, from 0 to 1."""
        return max(0.0, self.kappa) * self.units / (self.units + PRIOR)

    def calibrated(self, reward: float) -> float:
        """What people would say where the model says this, from 0 to 1."""
        return min(1.0, max(0.0, self.offset + self.slope * reward))


def measured(pairs: Sequence[tuple[str, float, float]]) -> Measured:
    """Compares a model with people.

    Args:
      pairs: (kind of score, people's, the model's) of each unit that both judged; means of binary scores are
        taken as the nearer of 0 and 1.
    """
    kinds: dict[str, list[tuple[int, int]]] = {}
    for kind, people, model in pairs:
        category = round if kind == "binary" else binned
        kinds.setdefault(kind, []).append((category(people), category(model)))
    kappa = cohen(kinds)
    slope, offset = _line([(model, people) for _, people, model in pairs])
    return Measured(0.0 if math.isnan(kappa) else kappa, len(pairs), slope, offset)


def blended(people: float, judges: int, model: float, weight: float) -> float:
    """One reward; see the module."""
    return (judges * people + weight * model) / (judges + weight)


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(slope, offset) of the least squares line through (x, y); (1, 0) where points are few, or where it
    would fall or not be defined: a model that says the opposite of people is not turned round."""
    if len(points) < LEAST_PAIRS:
        return 1.0, 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x)**2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread > 1e-9 else 0.0
    return (slope, mean_y - slope * mean_x) if slope > 0 else (1.0, 0.0)
