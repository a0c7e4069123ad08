"""When questions are closed and items have their verdict. Whatever locks rows locks a question before its
items."""
import json
from collections.abc import Sequence

from jaxrl_moe.judges.comparing import share
from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.rows import ask_of, mean_scores, win
from jaxrl_moe.judges.queue.store import Store, plain_json
from jaxrl_moe.judges.records import Ask, Verdict, verdict_plain

WAITING, DONE, DROPPED = "waiting", "done", "dropped"
PEOPLE = "people"  # the name of their verdict
HUMAN = "human"    # the judge of it

_items = tables.items
_questions = tables.questions
_needs = tables.needs
_answers = tables.answers


def settle_question(store: Store, connection: sa.Connection, question: str) -> None:
    """Closes a question, whose row is locked, once enough judges have answered, and settles its items."""
    row = connection.execute(sa.select(_questions).where(_questions.c.id == question)).one()
    counted = connection.scalars(sa.select(_answers.c.id).where(_answers.c.question == question).order_by(
        _answers.c.id).limit(row.needed)).all()
    if row.state != WAITING or row.gold is not None or len(counted) < row.needed:
        return
    connection.execute(sa.update(_questions).where(_questions.c.id == question).values(
        state=DONE, last=counted[-1]))
    for item in connection.scalars(sa.select(_needs.c.item).where(
            _needs.c.question == question).distinct().order_by(_needs.c.item)).all():
        settle_item(store, connection, item)


def settle_item(store: Store, connection: sa.Connection, item: str) -> None:
    """Gives an item its verdict once all questions about it are closed. Later answers do not change it."""
    row = connection.execute(sa.select(_items).where(_items.c.id == item).with_for_update()).one()
    states = connection.scalars(sa.select(_questions.c.state).join(_needs).where(
        _needs.c.item == item, _questions.c.state != DROPPED)).all()
    if row.state == WAITING and states and set(states) == {DONE}:
        conclude(store, connection, item, _verdict(connection, row))


def conclude(store: Store, connection: sa.Connection, item: str, verdict: Verdict) -> None:
    """Keeps the verdict that people came to."""
    keep_verdict(store, connection, item, PEOPLE, verdict)
    connection.execute(sa.update(_items).where(_items.c.id == item).values(state=DONE))


def keep_verdict(store: Store, connection: sa.Connection, item: str, name: str, verdict: Verdict) -> None:
    """Keeps a verdict under a name; the first one stays."""
    connection.execute(store.insert(tables.verdicts).values(
        item=item, name=name, body=plain_json(verdict_plain(verdict)),
        at=store.clock()).on_conflict_do_nothing())


def counted_answers(connection: sa.Connection, question: str) -> list[sa.Row]:
    """The answers that closed a question."""
    last = sa.select(_questions.c.last).where(_questions.c.id == question).scalar_subquery()
    return connection.execute(sa.select(_answers).where(
        _answers.c.question == question, _answers.c.id <= last).order_by(_answers.c.id)).all()


def _verdict(connection: sa.Connection, item: sa.Row) -> Verdict:
    ask = ask_of(connection.scalar(sa.select(tables.asks.c.body).where(tables.asks.c.id == item.ask)))
    asked = connection.execute(sa.select(_needs.c.turn, _questions.c.id, _questions.c.members).join(
        _questions).where(_needs.c.item == item.id, _questions.c.state == DONE).order_by(
            _needs.c.turn, _questions.c.id)).all()
    given = {row.id: counted_answers(connection, row.id) for row in asked}
    said = [{"question": row.id, "turn": row.turn, "judge": answer.judge, **json.loads(answer.body)}
            for row in asked for answer in given[row.id]]
    if ask.mode != "rubric":
        won = _won(item.work, [(json.loads(row.members), given[row.id]) for row in asked])
        return Verdict(share(won, _copies(connection, item.cluster), item.work), judge=HUMAN,
                       raw=plain_json(said))
    scores = [_scores(given[row.id]) for row in asked]
    rewards = [_reward(ask, each) for each in scores]
    return Verdict(rewards[0], scores[0], tuple(rewards[1:]), HUMAN, plain_json(said))


def _won(work: str, asked: Sequence[tuple[Sequence[str], Sequence[sa.Row]]]) -> dict[str, float]:
    """Of each work that one was compared with, what it has of that, as a mean over judges."""
    wins: dict[str, list[float]] = {}
    for members, given in asked:
        orders = [json.loads(answer.body)["order"] for answer in given]
        for place, other in enumerate(members):
            if other != work:
                wins.setdefault(other, []).extend(win(order, members.index(work), place) for order in orders)
    return {other: sum(each) / len(each) for other, each in wins.items()}


def _copies(connection: sa.Connection, cluster: str) -> dict[str, int]:
    rows = connection.execute(sa.select(_items.c.work, _items.c.copies).where(_items.c.cluster == cluster))
    return {row.work: row.copies for row in rows}


def _scores(given: list[sa.Row]) -> dict[str, float]:
    return mean_scores([json.loads(answer.body)["scores"][0] for answer in given])


def _reward(ask: Ask, scores: dict[str, float]) -> float:
    return min(1.0, ask.rubric.total(scores))  # weights of 0.1 and 0.9 may come to a little more
