"""The queue in numbers."""
import json

from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.leasing import open_leases, was_put_off
from jaxrl_moe.judges.queue.people import check_judge
from jaxrl_moe.judges.queue.queue import QueueProgress
from jaxrl_moe.judges.queue.settling import DONE, WAITING
from jaxrl_moe.judges.queue.store import Store

_questions = tables.questions
_items = tables.items
_leases = tables.leases
_answers = tables.answers


def progress(store: Store, connection: sa.Connection, judge: str, gold: bool) -> QueueProgress:
    """Where things stand. See Queue.progress.

    A gold item counts as another one would, so that a judge does not see by the numbers which it is. What is
    left are `runs` and `oldest_seconds`: no run waits for gold, so that these stay as they are once it is
    answered. The page shows them as they were a while ago.

    Args:
      judge: "" for nobody, as the queue's operator looks.
      gold: whether gold items are handed out.
    """
    if judge:
        check_judge(connection, judge)
    answered = sa.exists().where(_answers.c.question == _questions.c.id, _answers.c.judge == judge)
    waits, held, done = _states(store, judge, gold, answered)
    runs = connection.execute(sa.select(_items.c.run, sa.func.count(), sa.func.min(_items.c.created)).where(
        _items.c.state == WAITING).group_by(_items.c.run)).all()
    oldest = min((created for _, _, created in runs), default=store.clock())
    return QueueProgress(
        waiting=_count(connection, waits, ~held),
        leased=_count(connection, waits, held),
        postponed=_count(connection, waits, was_put_off(judge), ~answered),
        done=_count(connection, done),
        answered=connection.scalar(sa.select(sa.func.count()).where(_answers.c.judge == judge)),
        runs={json.loads(run): count for run, count, _ in sorted(runs)},
        oldest_seconds=max(0.0, store.clock() - oldest))


def waiting(connection: sa.Connection) -> int:
    """How many questions wait for judges."""
    return _count(connection, _is_gold(False), _questions.c.state == WAITING)


def recent(connection: sa.Connection, judge: str, count: int) -> list[tuple[float, float]]:
    """When a judge answered last, and how long each took. See Queue.recent."""
    rows = connection.execute(sa.select(_answers.c.at, _answers.c.seconds).where(
        _answers.c.judge == judge).order_by(_answers.c.id.desc()).limit(count)).all()
    return [(at, seconds) for at, seconds in reversed(rows)]


def _states(store: Store, judge: str, gold: bool,
            answered: sa.ColumnElement[bool]) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on a question: a judge sees it wait or be held, sees it be held, sees it done.

    A gold item is the same to all judges, and is never closed. To each it is in their own hands alone, and it
    is done where they have answered it, and as many judges in all as the newest question needs.
    """
    newest = _questions.alias()
    needed = sa.func.coalesce(sa.select(newest.c.needed).where(newest.c.gold.is_(None)).order_by(
        newest.c.created.desc()).limit(1).scalar_subquery(), 1)
    given = sa.select(sa.func.count()).select_from(_answers).where(
        _answers.c.question == _questions.c.id).correlate(_questions).scalar_subquery()
    closed = sa.and_(answered, given >= needed)
    own = sa.exists().where(
        _leases.c.question == _questions.c.id, _leases.c.judge == judge, _leases.c.ended == "",
        _leases.c.until > store.clock())

    def either(ordinary: sa.ColumnElement[bool], of_gold: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        return sa.or_(sa.and_(_is_gold(False), ordinary), sa.and_(_is_gold(True), of_gold, sa.literal(gold)))
    return (either(_questions.c.state == WAITING, ~closed), either(open_leases(store) > 0, own),
            either(_questions.c.state == DONE, closed))


def _is_gold(yes: bool) -> sa.ColumnElement[bool]:
    return _questions.c.gold.is_not(None) if yes else _questions.c.gold.is_(None)


def _count(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> int:
    """Questions."""
    return connection.scalar(sa.select(sa.func.count()).select_from(_questions).where(*conditions))
