"""Works, asks and answers as the queue's tables keep them."""
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.queue import Given
from jaxrl_moe.judges.queue.store import Store, hashed, plain_json
from jaxrl_moe.judges.records import Ask, Work, work_of
from jaxrl_moe.judges.rubric import rubric_of


def keep_work(store: Store, connection: sa.Connection, work: Work) -> str:
    """Keeps a work without its group, once; returns its digest."""
    digest = work.digest()
    body = plain_json(dataclasses.replace(work, group="", group_size=1, copy=0).plain())
    connection.execute(store.insert(tables.works).values(
        digest=digest, body=body).on_conflict_do_nothing())
    return digest


def keep_ask(store: Store, connection: sa.Connection, ask: Ask) -> str:
    """Keeps a rubric and a mode, once; returns their id."""
    name = ask_id(ask)
    connection.execute(store.insert(tables.asks).values(
        id=name, mode=ask.mode, body=plain_json(_plain(ask))).on_conflict_do_nothing())
    return name


def ask_id(ask: Ask) -> str:
    """The id of a rubric and a mode."""
    return hashed(_plain(ask))


def works_of(connection: sa.Connection, digests: Sequence[str]) -> list[Work]:
    """Works in the order of their digests."""
    found = connection.execute(sa.select(tables.works).where(tables.works.c.digest.in_(digests)))
    bodies = {row.digest: row.body for row in found}
    return [work_of(json.loads(bodies[digest]), "a work of the queue") for digest in digests]


def ask_of(body: str) -> Ask:
    """A rubric and a mode."""
    values = json.loads(body)
    return Ask(rubric_of(values["rubric"], "a rubric of the queue"), values["mode"])


def _plain(ask: Ask) -> dict[str, Any]:
    return {"rubric": ask.rubric.plain(), "mode": ask.mode}


def given_plain(given: Given) -> dict[str, Any]:
    """What an answer says, without the time that it took."""
    return {"scores": [dict(each) for each in given.scores], "order": [list(tied) for tied in given.order],
            "comment": given.comment}


def win(order: Sequence[Sequence[int]], position: int, other: int) -> float:
    """What a position has of the comparison with another, best first in `order`: 1, a half for a tie, or
    0."""
    rank = {each: place for place, tied in enumerate(order) for each in tied}
    return ((rank[position] < rank[other]) - (rank[position] > rank[other]) + 1) / 2


def mean_scores(scored: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each criterion's scores."""
    return {name: sum(scores[name] for scores in scored) / len(scored) for name in scored[0]}
