"""All that the queue holds, as JSON lines."""
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from jaxrl_moe.judges.exports.preferences import preferences
from jaxrl_moe.judges.exports.records import AskedQuestion, asked, text_of
from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa


def lines(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    """Yields objects, whose "record" says what each is: "judge", "question" with its works and all answers,
    or "item" with its verdicts and the questions that these follow from. Tokens are not among them."""
    for row in connection.execute(sa.select(tables.judges).order_by(tables.judges.c.name)).all():
        yield {"record": "judge", "name": row.name, "created": row.created, "removed": row.removed}
    for question in asked(connection):
        yield _question(question)
    for row in connection.execute(sa.select(tables.items).order_by(
            tables.items.c.created, tables.items.c.id)).all():
        yield _item(connection, row)


def preference_lines(connection: sa.Connection, margin: float) -> Iterator[dict[str, Any]]:
    """Yields preferences in the form that trainers on preferences read."""
    for each in preferences(connection, margin):
        yield {"prompt": each.better.task, "chosen": text_of(each.better), "rejected": text_of(each.worse),
               "margin": each.margin, "answers": each.answers, "source": each.source}


def _question(question: AskedQuestion) -> dict[str, Any]:
    said = "scores" if question.ask.mode == "rubric" else "order"
    return {"record": "question", "id": question.id, "mode": question.ask.mode,
            "rubric": question.ask.rubric.plain(), "state": question.state, "created": question.created,
            "gold": question.gold, "digests": question.digests,
            "works": [work.plain() for work in question.works],
            "answers": [_answer(dataclasses.asdict(opinion), said) for opinion in question.opinions]}


def _answer(values: dict[str, Any], said: str) -> dict[str, Any]:
    return {said: values.pop("said")} | values


def _item(connection: sa.Connection, row: sa.Row) -> dict[str, Any]:
    kept = connection.execute(sa.select(tables.verdicts).where(tables.verdicts.c.item == row.id)).all()
    needed = connection.execute(sa.select(tables.needs.c.question, tables.needs.c.turn).where(
        tables.needs.c.item == row.id).order_by(tables.needs.c.turn, tables.needs.c.question)).all()
    return {"record": "item", "id": row.id, "run": json.loads(row.run), "digest": row.work,
            "state": row.state, "why": json.loads(row.why), "created": row.created,
            "questions": [{"question": question, "turn": turn} for question, turn in needed],
            "verdicts": {each.name: json.loads(each.body) for each in kept}}
