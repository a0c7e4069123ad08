"""The queue in numbers."""
import json

from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.leasing import POSTPONED, open_leases
from jaxrl_moe.judges.queue.queue import Progress
from jaxrl_moe.judges.queue.settling import DONE, WAITING
from jaxrl_moe.judges.queue.store import Store

_questions = tables.questions
_items = tables.items
_leases = tables.leases
_answers = tables.answers


def progress(store: Store, connection: sa.Connection, judge: str) -> Progress:
    """Where things stand. See Queue.progress."""
    put_off = sa.exists().where(_leases.c.question == _questions.c.id, _leases.c.judge == judge,
                                _leases.c.ended == POSTPONED)
    answered = sa.exists().where(_answers.c.question == _questions.c.id, _answers.c.judge == judge)
    held = open_leases(store)
    runs = connection.execute(sa.select(_items.c.run, sa.func.count(), sa.func.min(_items.c.created)).where(
        _items.c.state == WAITING).group_by(_items.c.run)).all()
    oldest = min((created for _, _, created in runs), default=store.clock())
    return Progress(
        waiting=_count(connection, _questions.c.state == WAITING, held == 0),
        leased=_count(connection, _questions.c.state == WAITING, held > 0),
        postponed=_count(connection, _questions.c.state == WAITING, put_off, ~answered),
        done=_count(connection, _questions.c.state == DONE),
        answered=connection.scalar(sa.select(sa.func.count()).where(_answers.c.judge == judge)),
        runs={json.loads(run): count for run, count, _ in sorted(runs)},
        oldest_seconds=max(0.0, store.clock() - oldest))


def waiting(connection: sa.Connection) -> int:
    """How many questions wait for judges."""
    return _count(connection, _questions.c.state == WAITING)


def recent(connection: sa.Connection, judge: str, count: int) -> list[tuple[float, float]]:
    """When a judge answered last, and how long each took. See Queue.recent."""
    rows = connection.execute(sa.select(_answers.c.at, _answers.c.seconds).where(
        _answers.c.judge == judge).order_by(_answers.c.id.desc()).limit(count)).all()
    return [(at, seconds) for at, seconds in reversed(rows)]


def _count(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> int:
    """Questions that are not gold."""
    return connection.scalar(sa.select(sa.func.count()).select_from(_questions).where(
        _questions.c.gold.is_(None), *conditions))
