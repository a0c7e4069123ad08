"""What judges and models said, read from the queue for measures of their agreement."""
import collections
import dataclasses
import itertools
import json
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from jaxrl_moe.judges.agreement.kappa import binned, by_pair, cohen, counted, fleiss
from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.puts import WHOLE
from jaxrl_moe.judges.queue.queue import JudgeAgreement
from jaxrl_moe.judges.queue.rows import ask_of, win
from jaxrl_moe.judges.queue.settling import PEOPLE, keep_verdict
from jaxrl_moe.judges.queue.store import Store
from jaxrl_moe.judges.records import Ask, Verdict, verdict_of

GOLD_TOLERANCE = 0.25  # that a bounded score may be off on a gold item; a binary one may not
MODEL = "model"        # the name of a model's verdicts
BLENDED = "blended"    # and of what people and a model come to together

_questions = tables.questions
_answers = tables.answers
_verdicts = tables.verdicts


@dataclasses.dataclass(frozen=True)
class Said:
    """An answer, and what was asked."""
    question: str
    judge: str
    ask: Ask
    gold: Mapping[str, float] | None
    body: Mapping[str, Any]


def all_said(connection: sa.Connection) -> list[Said]:
    """All answers, late ones too, in the order in which they came."""
    asks = {row.id: ask_of(row.body) for row in connection.execute(sa.select(tables.asks))}
    rows = connection.execute(sa.select(
        _answers.c.question, _answers.c.judge, _questions.c.ask, _questions.c.gold, _answers.c.body).join(
            _questions).order_by(_answers.c.id))
    return [Said(row.question, row.judge, asks[row.ask], json.loads(row.gold or "null"),
                 json.loads(row.body)) for row in rows]


def agreement(connection: sa.Connection) -> JudgeAgreement:
    """How far judges agree. See Queue.agreement."""
    said = all_said(connection)
    opinions = _opinions(said)
    pairs = by_pair(opinions)
    judges = collections.Counter(each.question for each in said)
    return JudgeAgreement(
        items=sum(count > 1 for count in judges.values()),
        cohen=tuple((*names, cohen(pairs[names])) for names in sorted(pairs)),
        fleiss=fleiss(counted(opinions)), gold=_gold(said), with_model=_with_model(connection, said))


def keep_model(store: Store, connection: sa.Connection, item: str, verdict: Verdict) -> None:
    """Keeps a model's verdict, and how unsure it is. See SqlQueue.keep_model."""
    keep_verdict(store, connection, item, MODEL, verdict)
    asked = sa.select(tables.needs.c.question).where(tables.needs.c.item == item)
    doubt = 1 - abs(2 * verdict.reward - 1)
    connection.execute(sa.update(_questions).where(
        _questions.c.id.in_(asked), _questions.c.doubt < doubt).values(doubt=doubt))


def model_pairs(connection: sa.Connection) -> list[tuple[str, float, float]]:
    """(criterion's scale or "comparison", people's score, the model's) of all that both judged."""
    model = _verdicts.alias()
    rows = connection.execute(sa.select(
        tables.asks.c.body.label("ask"), _verdicts.c.body.label("people"), model.c.body.label("model"))
        .select_from(_verdicts.join(model, _verdicts.c.item == model.c.item)
                     .join(tables.items, tables.items.c.id == _verdicts.c.item)
                     .join(tables.asks, tables.asks.c.id == tables.items.c.ask))
        .where(_verdicts.c.name == PEOPLE, model.c.name == MODEL).order_by(_verdicts.c.item))
    return [each for row in rows for each in _scored_by_both(row)]


def units(ask: Ask, body: Mapping[str, Any]) -> Iterator[tuple[str, Hashable, Hashable]]:
    """(kind, unit, category) of what an answer says: of each criterion, or of each two works."""
    if ask.mode == "rubric":
        for criterion in ask.rubric.criteria:
            yield criterion.scale, criterion.id, _category(criterion.scale, body["scores"][0][criterion.id])
        return
    order = body["order"]
    for one, other in itertools.combinations(sorted(itertools.chain.from_iterable(order)), 2):
        yield "comparison", (one, other), win(order, one, other)


def _category(scale: str, score: float) -> int:
    return int(score) if scale == "binary" else binned(score)


def _opinions(said: Sequence[Said]) -> dict[tuple[Hashable, Hashable], dict[str, Hashable]]:
    found: dict = collections.defaultdict(dict)
    for each in said:
        for kind, unit, category in units(each.ask, each.body):
            found[kind, (each.question, unit)][each.judge] = category
    return found


def _gold(said: Sequence[Said]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for each in said:
        if each.gold is not None:
            right, count = found.get(each.judge, (0, 0))
            found[each.judge] = right + is_right(each), count + 1
    return found


def is_right(said: Said) -> bool:
    """Whether an answer to a gold item is right."""
    allowed = {criterion.id: GOLD_TOLERANCE * (criterion.scale == "bounded")
               for criterion in said.ask.rubric.criteria}
    scores = said.body["scores"][0]
    return all(abs(scores[name] - right) <= allowed[name] + 1e-9 for name, right in said.gold.items())


def _with_model(connection: sa.Connection, said: Sequence[Said]) -> dict[str, float]:
    """Of each judge, Cohen's kappa with the model on works under a rubric that both scored."""
    rows = connection.execute(sa.select(tables.needs.c.question, _verdicts.c.body).join(
        _verdicts, tables.needs.c.item == _verdicts.c.item).where(
            _verdicts.c.name == MODEL, tables.needs.c.turn == WHOLE).order_by(_verdicts.c.at))
    scores = {row.question: verdict_of(json.loads(row.body), "a model's verdict").scores for row in rows}
    pairs: dict = collections.defaultdict(lambda: collections.defaultdict(list))
    for each in said:
        model = scores.get(each.question)
        if model and each.ask.mode == "rubric":
            for kind, criterion, category in units(each.ask, each.body):
                pairs[each.judge][kind].append((category, _category(kind, model[criterion])))
    return {judge: cohen(chosen) for judge, chosen in sorted(pairs.items())}


def _scored_by_both(row: sa.Row) -> Iterator[tuple[str, float, float]]:
    ask = ask_of(row.ask)
    people = verdict_of(json.loads(row.people), "people's verdict")
    model = verdict_of(json.loads(row.model), "a model's verdict")
    if ask.mode == "rubric" and model.scores:
        for criterion in ask.rubric.criteria:
            yield criterion.scale, people.scores[criterion.id], model.scores[criterion.id]
    elif math.isfinite(model.reward):
        yield "comparison", people.reward, model.reward
