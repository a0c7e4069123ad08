"""Answers of judges: checked, kept for good, and at most one of a judge to a question."""
import itertools
import json
import math
from collections.abc import Sequence
from typing import Any

from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.leasing import ANSWERED, find, lock_judge, question_of
from jaxrl_moe.judges.queue.queue import Given, QueueError
from jaxrl_moe.judges.queue.rows import ask_of, given_plain
from jaxrl_moe.judges.queue.settling import WAITING, settle_question
from jaxrl_moe.judges.queue.store import Store, plain_json
from jaxrl_moe.judges.records import Ask

LONGEST_COMMENT = 10_000  # characters

_questions = tables.questions
_leases = tables.leases
_answers = tables.answers


def answer(store: Store, connection: sa.Connection, judge: str, token: str, given: Given) -> None:
    """Keeps an answer. See Queue.answer."""
    lock_judge(connection, judge)
    name = question_of(connection, judge, token)
    question = connection.execute(sa.select(_questions).where(
        _questions.c.id == name).with_for_update()).one()
    lease = find(connection, judge, token)
    ask = ask_of(connection.scalar(sa.select(tables.asks.c.body).where(tables.asks.c.id == question.ask)))
    body = plain_json(checked(given, ask, json.loads(lease.shown)))
    before = connection.scalar(sa.select(_answers.c.body).where(
        _answers.c.question == name, _answers.c.judge == judge))
    if before is not None:
        if before != body:
            raise QueueError("You have answered this item already, and otherwise: the first answer stays.")
        return
    late = bool(lease.ended) or lease.until <= store.clock() or question.state != WAITING
    connection.execute(sa.insert(_answers).values(
        question=name, judge=judge, lease=token, body=body, at=store.clock(), seconds=given.seconds,
        late=late))
    connection.execute(sa.update(_leases).where(_leases.c.token == token).values(ended=ANSWERED))
    settle_question(store, connection, name)


def checked(given: Given, ask: Ask, shown: Sequence[int]) -> dict[str, Any]:
    """An answer as it is kept, its positions those of the question's members.

    Args:
      shown: the member that stood at each position.

    Raises:
      UserError: it does not fit the question.
    """
    if not math.isfinite(given.seconds) or given.seconds < 0:
        raise QueueError(f"The seconds of an answer are {given.seconds}: give a number of at least 0.")
    if len(given.comment) > LONGEST_COMMENT:
        raise QueueError(f"The comment has {len(given.comment)} characters: write at most {LONGEST_COMMENT}.")
    plain = given_plain(given)
    if ask.mode == "rubric":
        if given.order or len(given.scores) != 1:
            raise QueueError("This item is scored by a rubric: give the scores of its one work, no order.")
        return plain | {"scores": [ask.rubric.checked(given.scores[0])]}
    positions = list(itertools.chain.from_iterable(given.order))
    if given.scores or sorted(positions) != list(range(len(shown))) or not all(given.order):
        raise QueueError(f"These {len(shown)} works are compared: give their order, in which each of the "
                         f"positions 0 to {len(shown) - 1} stands once, and no scores.")
    return plain | {"order": [sorted(shown[position] for position in tied) for tied in given.order]}
