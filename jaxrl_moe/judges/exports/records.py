"""What the queue holds, as records for exports."""
import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.queue import QueueError
from jaxrl_moe.judges.queue.rows import ask_of, win, works_of
from jaxrl_moe.judges.records import Ask, Work
from jaxrl_moe.spelling import quoted

SHORT = 8        # characters of an ask's id that people type
BETTER = ("work_1", "tie", "work_2")

_questions = tables.questions
_answers = tables.answers


@dataclasses.dataclass(frozen=True)
class Opinion:
    """What a judge answered: `said` are scores under a rubric, else an order of positions, best first."""
    judge: str
    said: Any
    comment: str
    seconds: float
    at: float
    late: bool
    counts: bool

    def better(self, one: int, other: int) -> str:
        """Which of two works is, as a row of BETTER."""
        return BETTER[round(2 - 2 * win(self.said, one, other))]


@dataclasses.dataclass(frozen=True)
class AskedQuestion:
    """A question with its works, in the order of their digests, and all that was answered."""
    id: str
    ask: Ask
    digests: tuple[str, ...]
    works: tuple[Work, ...]
    state: str
    created: float
    gold: Mapping[str, float] | None
    opinions: tuple[Opinion, ...]


@dataclasses.dataclass(frozen=True)
class Card:
    """What a person sees at once in other programs: one work and its scores, or two and which is better.

    Attributes:
      given: (opinion, scores or a row of BETTER) of each judge.
    """
    id: str
    works: tuple[Work, ...]
    gold: Mapping[str, float] | None
    given: tuple[tuple[Opinion, Any], ...]


def asks(connection: sa.Connection) -> dict[str, Ask]:
    """The rubrics and modes by their ids."""
    rows = connection.execute(sa.select(tables.asks).order_by(tables.asks.c.id))
    return {row.id: ask_of(row.body) for row in rows}


def asked(connection: sa.Connection, ask: str = "") -> Iterator[AskedQuestion]:
    """Yields all questions, oldest first, or those under an ask."""
    known = asks(connection)
    rows = connection.execute(sa.select(_questions).where(
        _questions.c.ask == ask if ask else sa.true()).order_by(_questions.c.created, _questions.c.id)).all()
    for row in rows:
        digests = tuple(json.loads(row.members))
        yield AskedQuestion(row.id, known[row.ask], digests, tuple(works_of(connection, digests)), row.state,
                    row.created, json.loads(row.gold or "null"), tuple(_opinions(connection, row)))


def cards(connection: sa.Connection, ask: str) -> Iterator[Card]:
    """Yields what is asked under an ask; a ranking as its pairs."""
    for question in asked(connection, ask):
        if question.ask.mode == "rubric":
            yield Card(question.id, question.works, question.gold,
                       tuple((opinion, opinion.said) for opinion in question.opinions))
            continue
        for one, other in itertools.combinations(range(len(question.works)), 2):
            yield Card(f"{question.id}-{one}-{other}", (question.works[one], question.works[other]), None,
                       tuple((opinion, opinion.better(one, other)) for opinion in question.opinions))


def chosen(connection: sa.Connection, prefix: str) -> tuple[str, Ask]:
    """The one ask whose id begins so; other programs keep one rubric in a dataset.

    Raises:
      QueueError: there is none, or there are several.
    """
    known = asks(connection)
    fitting = [name for name in known if name.startswith(prefix)]
    listed = ", ".join(f"{name[:SHORT]} ({quoted(ask.rubric.id)}, {ask.mode})" for name, ask in known.items())
    if not known:
        raise QueueError("The queue is empty: there is nothing to export.")
    if not fitting:
        raise QueueError(f"No rubric of the queue has an id that begins with {quoted(prefix)}. There are: "
                         f"{listed}.")
    if len(fitting) > 1:
        raise QueueError(f"The queue has several rubrics or modes, and such a file holds one: choose it by "
                         f"--ask=ID. There are: {listed}.")
    return fitting[0], known[fitting[0]]


def text_of(work: Work) -> str:
    """The texts that a judge is shown."""
    return "\n\n".join(shown.content for shown in work.shown if shown.kind != "png")


def pictures_of(work: Work) -> list[str]:
    """The pictures that a judge is shown, as data URLs."""
    return [f"data:image/png;base64,{shown.content}" for shown in work.shown if shown.kind == "png"]


def _opinions(connection: sa.Connection, question: sa.Row) -> Iterator[Opinion]:
    rows: Sequence[sa.Row] = connection.execute(sa.select(_answers).where(
        _answers.c.question == question.id).order_by(_answers.c.id)).all()
    for row in rows:
        body = json.loads(row.body)
        yield Opinion(row.judge, body["scores"][0] if body["scores"] else body["order"], body["comment"],
                      row.seconds, row.at, row.late, question.last is not None and row.id <= question.last)
