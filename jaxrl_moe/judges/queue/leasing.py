"""Who holds which question, and until when."""
import dataclasses
import hashlib
import json
import random
import secrets

from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.queue import Lease, QueueError
from jaxrl_moe.judges.queue.rows import ask_of, works_of
from jaxrl_moe.judges.queue.settling import WAITING
from jaxrl_moe.judges.queue.store import Store, is_name, plain_json
from jaxrl_moe.spelling import quoted

ANSWERED, RETURNED, SKIPPED, POSTPONED = "answered", "returned", "skipped", "postponed"

_questions = tables.questions
_leases = tables.leases
_answers = tables.answers
_judges = tables.judges


@dataclasses.dataclass(frozen=True)
class Handing:
    """How questions are handed out.

    Attributes:
      gold_share: of a judge's answers that are about gold items; 0: none are handed out.
      uncertain_first: whether what a model is least sure of goes first, not what has waited longest.
    """
    gold_share: float = 0.0
    uncertain_first: bool = False


def lease(store: Store, connection: sa.Connection, judge: str, seconds: float,
          handing: Handing) -> Lease | None:
    """Hands out a question. See Queue.lease."""
    lock_judge(connection, judge)
    until = store.clock() + seconds
    held = connection.scalar(sa.select(_leases.c.token).join(_questions).where(
        _leases.c.judge == judge, _leases.c.ended == "", _leases.c.until > store.clock(),
        _questions.c.state == WAITING).limit(1))
    if held is not None:
        return _extended(connection, held, until)
    question = _next(store, connection, judge, handing)
    if question is None:
        return None
    token = secrets.token_urlsafe(24)
    connection.execute(sa.insert(_leases).values(
        token=token, question=question.id, judge=judge, shown=_order(connection, question, judge),
        taken=store.clock(), until=until, ended=""))
    return _shown(connection, token)


def renew(store: Store, connection: sa.Connection, judge: str, token: str, seconds: float) -> Lease:
    """Makes a lease last. See Queue.renew."""
    lock_judge(connection, judge)
    row = find(connection, judge, token)
    if row.ended or row.until <= store.clock():
        raise QueueError("The lease is over: take the next item. What you answer to this one is kept.")
    return _extended(connection, token, store.clock() + seconds)


def end(connection: sa.Connection, judge: str, token: str, how: str) -> None:
    """Ends a lease as RETURNED, SKIPPED or POSTPONED; the same end a second time changes nothing."""
    lock_judge(connection, judge)
    row = find(connection, judge, token)
    if row.ended not in ("", how):
        raise QueueError(f"The lease has ended already: the item was {row.ended}.")
    connection.execute(sa.update(_leases).where(_leases.c.token == token).values(ended=how))


def question_of(connection: sa.Connection, judge: str, token: str) -> str:
    """The question of a judge's lease; raises QueueError where there was none."""
    question = connection.scalar(sa.select(_leases.c.question).where(
        _leases.c.token == token, _leases.c.judge == judge)) if is_name(token) else None
    if question is None:
        raise QueueError("There was no such lease of yours: take the next item.")
    return question


def find(connection: sa.Connection, judge: str, token: str) -> sa.Row:
    """A judge's lease, locked; raises QueueError where there was none."""
    question_of(connection, judge, token)
    return connection.execute(sa.select(_leases).where(_leases.c.token == token).with_for_update()).one()


def open_leases(store: Store) -> sa.ScalarSelect:
    """How many leases of a question last, in a query on questions."""
    return sa.select(sa.func.count()).select_from(_leases).where(
        _leases.c.question == _questions.c.id, _leases.c.ended == "",
        _leases.c.until > store.clock()).correlate(_questions).scalar_subquery()


def was_put_off(judge: str) -> sa.ColumnElement[bool]:
    """A condition on a question: the judge has put it off."""
    return sa.exists().where(_leases.c.question == _questions.c.id, _leases.c.judge == judge,
                             _leases.c.ended == POSTPONED)


def lock_judge(connection: sa.Connection, judge: str) -> None:
    """Of a judge's calls one at a time goes on, and none once they are removed; raises QueueError then. It is
    the first lock that any of them takes."""
    row = connection.execute(sa.select(_judges).where(
        _judges.c.name == judge).with_for_update()).one_or_none()
    if row is None or row.removed is not None:
        raise QueueError(f"There is no judge called {quoted(judge)}.")


def _next(store: Store, connection: sa.Connection, judge: str, handing: Handing) -> sa.Row | None:
    if not handing.gold_share:
        return _ordinary(store, connection, judge, handing)
    answered = _count(connection, judge, _questions.c.gold.is_not(None))
    question = _ordinary(store, connection, judge, handing)
    due = question is not None and answered < handing.gold_share * (_count(connection, judge) + 1)
    gold = _gold_next(connection, judge, ~was_put_off(judge)) if due or not answered else None
    # gold that was put off comes back as the others do, once there is nothing else
    return gold or question or _gold_next(connection, judge, was_put_off(judge))


def _count(connection: sa.Connection, judge: str, *conditions: sa.ColumnElement[bool]) -> int:
    """A judge's answers."""
    return connection.scalar(sa.select(sa.func.count()).select_from(_answers.join(_questions)).where(
        _answers.c.judge == judge, *conditions))


def _gold_next(connection: sa.Connection, judge: str, condition: sa.ColumnElement[bool]) -> sa.Row | None:
    return connection.execute(sa.select(_questions).where(
        _questions.c.gold.is_not(None), condition, *_open_to(judge)).order_by(
            _questions.c.id).limit(1)).one_or_none()


def _ordinary(store: Store, connection: sa.Connection, judge: str, handing: Handing) -> sa.Row | None:
    """The next question that is not gold, locked. Locks are skipped, so that judges do not wait for each
    other; what others committed meanwhile is looked at once the lock is ours."""
    given = sa.select(sa.func.count()).select_from(_answers).where(
        _answers.c.question == _questions.c.id).correlate(_questions).scalar_subquery()
    taken = given + open_leases(store)
    full: list[str] = []
    while True:
        row = connection.execute(sa.select(_questions).where(
            _questions.c.gold.is_(None), _questions.c.state == WAITING, taken < _questions.c.needed,
            _questions.c.id.not_in(full), *_open_to(judge)).order_by(*_rank(judge, given, handing)).limit(1)
            .with_for_update(skip_locked=True, of=_questions)).one_or_none()
        if row is None:
            return None
        still = connection.scalar(sa.select(taken < _questions.c.needed).where(
            _questions.c.id == row.id, _questions.c.state == WAITING))
        if still:
            return row
        full.append(row.id)


def _open_to(judge: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on a question: the judge has neither answered nor skipped it."""
    answered = sa.exists().where(_answers.c.question == _questions.c.id, _answers.c.judge == judge)
    skipped = sa.exists().where(_leases.c.question == _questions.c.id, _leases.c.judge == judge,
                                _leases.c.ended == SKIPPED)
    return ~answered, ~skipped


def _rank(judge: str, given: sa.ScalarSelect, handing: Handing) -> list[sa.ColumnElement]:
    """What goes first: what this judge has not put off, then what another judge has answered already, then
    what a model is unsure of, then the oldest."""
    put_off = sa.select(sa.func.coalesce(sa.func.max(_leases.c.taken), 0.0)).where(
        _leases.c.question == _questions.c.id, _leases.c.judge == judge,
        _leases.c.ended == POSTPONED).correlate(_questions).scalar_subquery()
    unsure = [_questions.c.doubt.desc()] if handing.uncertain_first else []
    return [put_off, given.desc(), *unsure, _questions.c.created, _questions.c.id]


def _order(connection: sa.Connection, question: sa.Row, judge: str) -> str:
    """Positions of a question's works as they are shown: by chance, and two side by side change sides from
    one lease to the next."""
    positions = list(range(len(json.loads(question.members))))
    if len(positions) == 2:
        before = connection.scalar(sa.select(sa.func.count()).where(_leases.c.question == question.id))
        side = hashlib.sha256(question.id.encode()).digest()[0] + before
        return plain_json(positions[::-1] if side % 2 else positions)
    random.Random(f"{question.id} {judge}").shuffle(positions)
    return plain_json(positions)


def _extended(connection: sa.Connection, token: str, until: float) -> Lease:
    connection.execute(sa.update(_leases).where(_leases.c.token == token).values(until=until))
    return _shown(connection, token)


def _shown(connection: sa.Connection, token: str) -> Lease:
    row = connection.execute(sa.select(
        _leases.c.question, _leases.c.shown, _leases.c.until, _questions.c.members,
        tables.asks.c.body).select_from(_leases.join(_questions).join(tables.asks)).where(
            _leases.c.token == token)).one()
    members = works_of(connection, json.loads(row.members))
    shown = tuple(members[position] for position in json.loads(row.shown))
    return Lease(token, row.question, shown, ask_of(row.body), row.until)
