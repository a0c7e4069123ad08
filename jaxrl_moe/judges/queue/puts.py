"""How works come into the queue: the items that runs wait for, and the questions that judges are asked about
them."""
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.queue import QueueError
from jaxrl_moe.judges.queue.rows import keep_ask, keep_work
from jaxrl_moe.judges.queue.settling import DROPPED, HUMAN, WAITING, conclude, settle_item, settle_question
from jaxrl_moe.judges.queue.store import Store, hashed, plain_json
from jaxrl_moe.judges.records import MODES, Ask, Verdict, Work
from jaxrl_moe.spelling import quoted

WHOLE = -1     # the turn of a question about a whole work
ROUNDING = 1e-9  # that weights may sum to more than 1

_items = tables.items
_questions = tables.questions
_needs = tables.needs


def put(store: Store, connection: sa.Connection, work: Work, ask: Ask, overlap: int) -> str:
    """Hands in a work; returns its item's id. See SqlQueue.put."""
    check(work, ask)
    asked = keep_ask(store, connection, ask)
    digest = keep_work(store, connection, work)
    cluster = "" if ask.mode == "rubric" else hashed(work.group, asked)
    item = hashed("item", digest, asked, ask.turns, cluster)
    store.lock(connection, cluster or item)
    first = {"run": plain_json(ask.run), "state": WAITING, "created": store.clock(), "why": plain_json("")}
    connection.execute(store.insert(_items).values(
        id=item, ask=asked, work=digest, cluster=cluster, size=work.group_size, puts=0, turns=ask.turns,
        **first).on_conflict_do_nothing())
    connection.execute(sa.update(_items).where(_items.c.id == item).values(
        puts=_items.c.puts + 1, run=first["run"]))
    connection.execute(sa.update(_items).where(
        _items.c.id == item, _items.c.state == DROPPED).values(**first))
    if cluster:
        _compare(store, connection, cluster, asked, ask.mode, overlap)
    else:
        for turn, shown in _shown(work, ask):
            digests = [keep_work(store, connection, shown)]
            _need(store, connection, [item], _asked(store, connection, asked, digests, overlap), turn)
        _go_on(store, connection, [item])
    return item


def check(work: Work, ask: Ask) -> None:
    """Raises QueueError for what people cannot be asked."""
    if ask.mode not in MODES:
        raise QueueError(f"The mode {quoted(ask.mode)} is not known: give one of {', '.join(MODES)}.")
    total = math.fsum(criterion.weight for criterion in ask.rubric.criteria)
    if total > 1 + ROUNDING:
        raise QueueError(f"The weights of the rubric {ask.rubric.id!r} sum to {total:g}, and rewards go from "
                         "0 to 1: make them sum to 1.")
    if ask.mode == "rubric":
        return
    if not work.group or work.group_size < 2:
        raise QueueError(f"A work without a group of at least two is compared with none, and the mode is "
                         f"{ask.mode!r}: give `group` and `group_size`, or judge by mode \"rubric\".")
    if ask.turns:
        raise QueueError(f"Turns are not compared: with mode {ask.mode!r}, ask for no rewards of turns.")


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


def put_gold(store: Store, connection: sa.Connection, work: Work, ask: Ask,
             scores: Mapping[str, Any]) -> str:
    """Keeps a work whose scores are known; returns the question's id. See SqlQueue.add_gold."""
    check(work, ask)
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
    """Asks for comparisons once all works of a group are there. Works that are equal are one item: what was
    handed in so often counts."""
    rows = connection.execute(sa.select(_items).where(
        _items.c.cluster == cluster, _items.c.state != DROPPED).order_by(_items.c.id)).all()
    size = max(row.size for row in rows)
    if len(rows) < size and sum(row.puts for row in rows) < size:
        return
    items = {row.work: row.id for row in rows}
    if len(items) == 1:
        conclude(store, connection, rows[0].id, Verdict(0.5, judge=HUMAN, raw="All works are equal."))
        return
    width = 2 if mode == "pairwise" else len(items)
    wanted = [_asked(store, connection, ask, works, overlap) for works in
              itertools.combinations(sorted(items), width)]
    waiting = [row.id for row in rows if row.state == WAITING]
    _forget(connection, waiting, wanted)
    for question, works in zip(wanted, itertools.combinations(sorted(items), width)):
        _need(store, connection, [items[work] for work in works if items[work] in waiting], question, WHOLE)
    _go_on(store, connection, waiting)


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
