"""Which of two works people prefer, from all that they said, late answers too."""
import collections
import dataclasses
import itertools
from collections.abc import Iterator

from jaxrl_moe.judges.exports.records import AskedQuestion, asked
from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.puts import WHOLE
from jaxrl_moe.judges.queue.rows import ask_id
from jaxrl_moe.judges.records import Work


@dataclasses.dataclass(frozen=True)
class Preference:
    """Two works on the same task, of which people prefer one.

    Attributes:
      source: "comparison", or "scores" under the same rubric.
      margin: how much they prefer it: wins less losses, as a share of the answers, or the difference of mean
        rewards.
      answers: that it rests on.
    """
    better: Work
    worse: Work
    source: str
    margin: float
    answers: int


def preferences(connection: sa.Connection, margin: float = 0.0) -> Iterator[Preference]:
    """Yields preferences of more than a margin, those of comparisons first, each two works once of each
    source and rubric. What judges did not agree on, or found equal, is none."""
    whole = set(connection.scalars(sa.select(tables.needs.c.question).where(tables.needs.c.turn == WHOLE)))
    questions = [each for each in asked(connection) if each.opinions and each.id in whole]
    compared = _compared([each for each in questions if each.ask.mode != "rubric"])
    scored = _scored([each for each in questions if each.ask.mode == "rubric"])
    for each in itertools.chain(compared, scored):
        if each.margin > margin:
            yield each


def _compared(questions: list[AskedQuestion]) -> Iterator[Preference]:
    wins: collections.Counter = collections.Counter()
    answers: collections.Counter = collections.Counter()
    works: dict[str, Work] = {}
    for question in questions:
        works |= zip(question.digests, question.works, strict=True)
        for one, other in itertools.combinations(range(len(question.works)), 2):
            pair = question.digests[one], question.digests[other]
            for opinion in question.opinions:
                better = opinion.better(one, other)
                wins[pair] += (better == "work_1") - (better == "work_2")
                answers[pair] += 1
    for pair, count in sorted(answers.items()):
        better, worse = pair if wins[pair] > 0 else pair[::-1]
        yield Preference(works[better], works[worse], "comparison", abs(wins[pair]) / count, count)


def _scored(questions: list[AskedQuestion]) -> Iterator[Preference]:
    by_task: dict = collections.defaultdict(list)
    for question in questions:
        totals = [question.ask.rubric.total(opinion.said) for opinion in question.opinions]
        (work,) = question.works
        by_task[work.task, ask_id(question.ask)].append((sum(totals) / len(totals), len(totals), work))
    for scored in by_task.values():
        ranked = sorted(scored, key=lambda each: -each[0])
        for (more, one, better), (less, other, worse) in itertools.combinations(ranked, 2):
            yield Preference(better, worse, "scores", more - less, one + other)
