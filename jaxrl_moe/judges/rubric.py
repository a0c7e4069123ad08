"""Rubrics: what a judge looks at, how it may score, and how its scores become one number."""
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.outside import REQUIRED, Fields, OutsideError, as_object, kind
from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import UserError

SCALES = {"binary": "0 or 1", "bounded": "any number from 0 to 1"}


@dataclasses.dataclass(frozen=True)
class Criterion:
    """One question to a judge.

    Attributes:
      id: its name in scores.
      weight: of its score in the sum.
      scale: a row of SCALES.
      description: what the judge reads.
    """
    id: str
    weight: float
    scale: str
    description: str

    def check(self, score: Any) -> float:
        """The score as a number; raises UserError for one that the scale has not."""
        number = isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)
        if not number or not 0 <= score <= 1 or self.scale == "binary" and score not in (0, 1):
            raise UserError(f"The score {quoted(score)} of the criterion {self.id!r} is none of its scale "
                            f"{self.scale}: give {SCALES[self.scale]}.")
        return float(score)


@dataclasses.dataclass(frozen=True)
class Rubric:
    """Criteria, each with another id."""
    id: str
    criteria: tuple[Criterion, ...]

    def checked(self, scores: Mapping[str, Any]) -> dict[str, float]:
        """The scores in the criteria's order.

        Raises:
          UserError: one is missing, belongs to no criterion, or is none of its scale.
        """
        names = [criterion.id for criterion in self.criteria]
        for name in scores:
            if name not in names:
                raise UserError(f"{quoted(name)} is no criterion of the rubric {self.id!r}."
                                f"{did_you_mean(name, names)} It has: {', '.join(names)}.")
        absent = [name for name in names if name not in scores]
        if absent:
            raise UserError(f"The scores lack {', '.join(absent)} of the rubric {self.id!r}.")
        return {criterion.id: criterion.check(scores[criterion.id]) for criterion in self.criteria}

    def total(self, scores: Mapping[str, float]) -> float:
        """The weighted sum of checked scores."""
        return math.fsum(criterion.weight * scores[criterion.id] for criterion in self.criteria)

    def check_weights(self) -> None:
        """Raises UserError where the sum of full scores is above 1, which no reward is."""
        most = self.total({criterion.id: 1.0 for criterion in self.criteria})
        if most > 1 + 1e-9:  # as of weights that floats round
            raise UserError(f"The weights of the rubric {self.id!r} add up to {most:g}, and a reward is at "
                            "most 1: give weights with the sum 1.")

    def plain(self) -> dict[str, Any]:
        """As rubric_of reads it."""
        return {"id": self.id, "criteria": [dataclasses.asdict(each) for each in self.criteria]}


def rubric_of(values: Any, where: str) -> Rubric:
    """Reads {"id", "criteria": [{id, weight, scale, description}, ...]}.

    Raises:
      OutsideError: it is none such, or two criteria share an id; `where` begins the message.
    """
    fields = Fields(values, where)
    fields.only(("id", "criteria"))
    listed = fields.values.get("criteria")
    if not isinstance(listed, list) or not listed:
        raise OutsideError(f"{where}: `criteria` holds {kind(listed)}: give a list of at least one "
                           "criterion.")
    criteria = tuple(_criterion(each, f"{where}: criterion {number}") for number, each in enumerate(listed))
    names = [criterion.id for criterion in criteria]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OutsideError(f"{where}: two criteria are called {twice!r}.")
    return Rubric(fields.string("id", REQUIRED), criteria)


def overridden(rubric: Rubric, overrides: Any, where: str) -> Rubric:
    """The rubric with fields of some criteria replaced, as {"layout": {"weight": 0.5}}.

    Raises:
      OutsideError: there is no such criterion or field, or a value does not fit.
    """
    names = [criterion.id for criterion in rubric.criteria]
    changes = as_object(overrides, where)
    for name in changes:
        if name not in names:
            raise OutsideError(f"{where}: the rubric {rubric.id!r} has no criterion {quoted(name)}."
                               f"{did_you_mean(name, names)} It has: {', '.join(names)}.")
    merged = [dataclasses.asdict(each) | as_object(changes.get(each.id, {}), f"{where}: {each.id!r}")
              for each in rubric.criteria]
    return rubric_of({"id": rubric.id, "criteria": merged}, where)


def _criterion(values: Any, where: str) -> Criterion:
    fields = Fields(values, where)
    fields.only(("id", "weight", "scale", "description"))
    name = fields.string("id", REQUIRED)
    if not name.strip():
        raise OutsideError(f"{where}: `id` is empty.")
    return Criterion(name, fields.number("weight", 1.0, above=0),
                     fields.string("scale", "bounded", choices=tuple(SCALES)),
                     fields.string("description", REQUIRED))
