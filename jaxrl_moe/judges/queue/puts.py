"""How works come into the queue: the items that runs wait for, and the questions that judges are asked about
them."""
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.queue import QueueError
from jaxrl_moe.judges.queue.rows import ask_id, ask_of, keep_ask, keep_work, works_of
from jaxrl_moe.judges.queue.settling import DROPPED, HUMAN, WAITING, conclude, settle_item, settle_question
from jaxrl_moe.judges.queue.store import Store, hashed, plain_json
from jaxrl_moe.judges.records import Ask, Verdict, Work, check_ask

WHOLE = -1  # the turn of a question about a whole work

_items = tables.items
_questions = tables.questions
_needs = tables.needs


def item_id(work: Work, ask: Ask) -> tuple[str, str]:
    """(id of a work's item, name of the group that it is compared in, which is empty under a rubric).

    Raises:
      UserError: it cannot be judged so.
    """
    check_ask(work, ask)
    cluster = "" if ask.mode == "rubric" else hashed(work.group, ask_id(ask))
    return hashed("item", work.digest(), ask_id(ask), ask.turns, cluster), cluster


def put(store: Store, connection: sa.Connection, work: Work, ask: Ask, overlap: int) -> tuple[str, bool]:
    """Hands in a work; returns its item's id and whether it is new. See SqlQueue.put."""
    item, cluster = item_id(work, ask)
    asked = keep_ask(store, connection, ask)
    digest = keep_work(store, connection, work)
    store.lock(connection, cluster or item)
    first = {"run": plain_json(ask.run), "state": WAITING, "created": store.clock(), "why": plain_json("")}
    added = connection.execute(store.insert(_items).values(
        id=item, ask=asked, work=digest, cluster=cluster, size=work.group_size, copies=0, turns=ask.turns,
        **first).on_conflict_do_nothing())
    connection.execute(sa.update(_items).where(_items.c.id == item).values(run=first["run"]))
    connection.execute(sa.update(_items).where(
        _items.c.id == item, _items.c.copies <= work.copy).values(copies=work.copy + 1))
    connection.execute(sa.update(_items).where(
        _items.c.id == item, _items.c.state == DROPPED).values(**first))
    if cluster:
        _compare(store, connection, cluster, asked, ask.mode, overlap)
    else:
        for turn, shown in _shown(work, ask):
            digests = [keep_work(store, connection, shown)]
            _need(store, connection, [item], _asked(store, connection, asked, digests, overlap), turn)
        _go_on(store, connection, [item])
    return item, added.rowcount > 0


def drop(store: Store, connection: sa.Connection, item: str, why: str) -> None:
    """Nobody waits for an item any more. See SqlQueue.drop."""
    _lock_questions(connection, [item])
    row = connection.execute(sa.select(_items).where(_items.c.id == item).with_for_update()).one_or_none()
    if row is None:
        raise KeyError(item)
    if row.state != WAITING:
        return
    connection.execute(sa.update(_items).where(_items.c.id == item).values(
        state=DROPPED, why=plain_json(why)))
    _let_go(connection, [item])


def work_of_item(connection: sa.Connection, item: str) -> tuple[Work, Ask]:
    """An item's work and how it is judged. See SqlQueue.work."""
    row = connection.execute(sa.select(_items, tables.asks.c.body).join(tables.asks).where(
        _items.c.id == item)).one_or_none()
    if row is None:
        raise KeyError(item)
    (work,) = works_of(connection, [row.work])
    ask = dataclasses.replace(ask_of(row.body), turns=row.turns, run=json.loads(row.run))
    size = row.size if row.cluster else 1
    return dataclasses.replace(work, group=row.cluster, group_size=size, copy=row.copies - 1), ask


def put_gold(store: Store, connection: sa.Connection, work: Work, ask: Ask,
             scores: Mapping[str, Any]) -> str:
    """Keeps a work whose scores are known; returns the question's id. See SqlQueue.add_gold."""
    check_ask(work, ask)
    if ask.mode != "rubric":
        raise QueueError(f"Gold items are scored under a rubric, and the mode is {ask.mode!r}.")
    right = plain_json(ask.rubric.checked(scores))
    members = plain_json([keep_work(store, connection, work)])
    asked = keep_ask(store, connection, ask)
    question = hashed("gold", members, asked)
    connection.execute(store.insert(_questions).values(
        id=question, ask=asked, members=members, needed=1, state=WAITING, created=store.clock(), doubt=0.0,
        gold=right).on_conflict_do_nothing())
    known = connection.scalar(sa.select(_questions.c.gold).where(_questions.c.id == question))
    if known != right:
        raise QueueError(f"This work is a gold item already, with the scores {known}: they stay.")
    return question


def _shown(work: Work, ask: Ask) -> list[tuple[int, Work]]:
    """(turn, work as it is shown for it) of each question about a work by itself."""
    turns = range(len(work.turns)) if ask.turns else ()
    return [(WHOLE, work), *((turn, dataclasses.replace(work, turns=work.turns[:turn + 1], parts=()))
                             for turn in turns)]


def _asked(store: Store, connection: sa.Connection, ask: str, digests: Sequence[str], overlap: int) -> str:
    """The id of the question about works, which is put if it is new."""
    members = plain_json(sorted(digests))
    question = hashed("question", members, ask)
    connection.execute(store.insert(_questions).values(
        id=question, ask=ask, members=members, needed=overlap, state=WAITING, created=store.clock(),
        doubt=0.0).on_conflict_do_nothing())
    return question


def _need(store: Store, connection: sa.Connection, items: Sequence[str], question: str, turn: int) -> None:
    for item in items:
        connection.execute(store.insert(_needs).values(
            item=item, question=question, turn=turn).on_conflict_do_nothing())


def _compare(store: Store, connection: sa.Connection, cluster: str, ask: str, mode: str,
             overlap: int) -> None:
    """Asks for comparisons once all works of a group are there; equal ones are one item."""
    rows = connection.execute(sa.select(_items).where(
        _items.c.cluster == cluster).order_by(_items.c.id)).all()
    if sum(row.copies for row in rows) < max(row.size for row in rows):
        return
    if len(rows) == 1:
        conclude(store, connection, rows[0].id, Verdict(0.5, judge=HUMAN, raw="[]"))
        return
    items = {row.work: row.id for row in rows if row.state != DROPPED}
    waiting = [row.id for row in rows if row.state == WAITING]
    if len(items) > 1:
        _ask_all(store, connection, ask, items, waiting, 2 if mode == "pairwise" else len(items), overlap)
    _go_on(store, connection, waiting)


def _ask_all(store: Store, connection: sa.Connection, ask: str, items: Mapping[str, str],
             waiting: Sequence[str], width: int, overlap: int) -> None:
    """Puts the questions about so many works of a group at a time, in place of those about fewer works than
    there are by now; `items` are by their works' digests."""
    together = list(itertools.combinations(sorted(items), width))
    wanted = [_asked(store, connection, ask, works, overlap) for works in together]
    _forget(connection, waiting, wanted)
    for question, works in zip(wanted, together, strict=True):
        _need(store, connection, [items[work] for work in works if items[work] in waiting], question, WHOLE)


def _forget(connection: sa.Connection, items: Sequence[str], wanted: Sequence[str]) -> None:
    """Lets go of questions about fewer works than there are by now."""
    old = connection.scalars(sa.select(_needs.c.question).where(
        _needs.c.item.in_(items), _needs.c.question.not_in(wanted))).all()
    connection.execute(sa.delete(_needs).where(_needs.c.item.in_(items), _needs.c.question.in_(old)))
    _drop_unneeded(connection, old)


def _go_on(store: Store, connection: sa.Connection, items: Sequence[str]) -> None:
    """Puts the questions of items to judges, unless they are answered already."""
    for question in _lock_questions(connection, items):
        connection.execute(sa.update(_questions).where(
            _questions.c.id == question, _questions.c.state == DROPPED).values(state=WAITING))
        settle_question(store, connection, question)
    for item in sorted(items):
        settle_item(store, connection, item)


def _let_go(connection: sa.Connection, items: Sequence[str]) -> None:
    _drop_unneeded(connection, _lock_questions(connection, items))


def _drop_unneeded(connection: sa.Connection, questions: Sequence[str]) -> None:
    """Drops questions that no item waits for."""
    needed = sa.select(_needs.c.question).join(_items).where(_items.c.state == WAITING)
    connection.execute(sa.update(_questions).where(
        _questions.c.id.in_(questions), _questions.c.state == WAITING,
        _questions.c.id.not_in(needed)).values(state=DROPPED))


def _lock_questions(connection: sa.Connection, items: Sequence[str]) -> Sequence[str]:
    asked = sa.select(_needs.c.question).where(_needs.c.item.in_(items))
    return connection.scalars(sa.select(_questions.c.id).where(_questions.c.id.in_(asked)).order_by(
        _questions.c.id).with_for_update()).all()
