"""Argilla's import format: a folder that `rg.Dataset.from_disk(PATH)` of Argilla 2 reads.

Argilla's ratings are integers, so a bounded score stands there as its tenths, rounded; the JSON lines have it
as it is. Answers become suggestions of the agent "people", the mean of all judges; those of judges who have
an account in Argilla become responses too.
"""
import json
import pathlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.judges.exports.records import BETTER, Card, Opinion, pictures_of, text_of
from jaxrl_moe.judges.queue.queue import QueueError
from jaxrl_moe.judges.queue.rows import mean_scores
from jaxrl_moe.judges.records import Ask
from jaxrl_moe.judges.rubric import Criterion
from jaxrl_moe.spelling import quoted

TENTHS = 10


def write_folder(folder: pathlib.Path, name: str, ask: Ask, cards: Sequence[Card],
                 users: Mapping[str, str]) -> None:
    """Fills an empty folder.

    Args:
      name: of the dataset.
      users: judge -> the id of their account, a UUID.

    Raises:
      QueueError: an id is no UUID.
    """
    accounts = {judge: _account(judge, text) for judge, text in users.items()}
    (folder / ".argilla").mkdir()
    _write(folder / ".argilla" / "dataset.json", _dataset(name))
    _write(folder / ".argilla" / "settings.json", _settings(ask, cards))
    _write(folder / "records.json", [_record(ask, card, accounts) for card in cards])


def _write(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="ascii")


def _account(judge: str, text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise QueueError(f"The account {quoted(text)} of the judge {quoted(judge)} is no UUID, as Argilla's "
                         "users have.") from error


def _dataset(name: str) -> dict[str, Any]:
    return {"name": name, "status": "draft", "guidelines": None, "allow_extra_metadata": True,
            "distribution": {"strategy": "overlap", "min_submitted": 1}}


def _settings(ask: Ask, cards: Sequence[Card]) -> dict[str, Any]:
    fields = [_field("task", "text", True)]
    for number in range(1 if ask.mode == "rubric" else 2):
        fields.append(_field(f"work_{number + 1}", "text", False))
        pictures = max((len(pictures_of(card.works[number])) for card in cards), default=0)
        fields += [_field(f"picture_{number + 1}_{picture + 1}", "image", False)
                   for picture in range(pictures)]
    comment = _question("comment", "Comment", "", {"type": "text", "use_markdown": False}, False)
    return {"guidelines": None, "allow_extra_metadata": True, "fields": fields,
            "questions": [*_questions(ask), comment], "vectors": [], "metadata": [],
            "distribution": {"strategy": "overlap", "min_submitted": 1}}


def _field(name: str, kind: str, required: bool) -> dict[str, Any]:
    settings = {"type": kind} | ({"use_markdown": False} if kind == "text" else {})
    return {"name": name, "title": name.replace("_", " "), "required": required, "settings": settings}


def _questions(ask: Ask) -> list[dict[str, Any]]:
    if ask.mode != "rubric":
        return [_question("better", "Which is better?", "", _labels(BETTER), True)]
    return [_question(f"criterion_{number}", criterion.id, criterion.description, _scale(criterion), True)
            for number, criterion in enumerate(ask.rubric.criteria, 1)]


def _question(name: str, title: str, description: str, settings: Mapping[str, Any],
              required: bool) -> dict[str, Any]:
    return {"name": name, "title": title, "description": description or None, "required": required,
            "settings": settings}


def _scale(criterion: Criterion) -> dict[str, Any]:
    if criterion.scale == "binary":
        return _labels(("0", "1"))
    return {"type": "rating", "options": [{"value": value} for value in range(TENTHS + 1)]}


def _labels(values: Sequence[str]) -> dict[str, Any]:
    return {"type": "label_selection", "options": [{"value": value, "text": value.replace("_", " ")}
                                                   for value in values]}


def _record(ask: Ask, card: Card, accounts: Mapping[str, str]) -> dict[str, Any]:
    fields = {"task": card.works[0].task}
    for number, work in enumerate(card.works, 1):
        fields[f"work_{number}"] = text_of(work)
        fields |= {f"picture_{number}_{place}": url for place, url in enumerate(pictures_of(work), 1)}
    responses: dict[str, list[dict[str, Any]]] = {}
    for opinion, said in card.given:
        if opinion.judge in accounts:
            for name, value in _values(ask, opinion, said).items():
                responses.setdefault(name, []).append(
                    {"value": value, "user_id": accounts[opinion.judge], "status": "submitted"})
    metadata = {"is_gold": str(card.gold is not None), "answers": len(card.given)}
    return {"id": card.id, "fields": fields, "metadata": metadata, "suggestions": _suggestions(ask, card),
            "responses": responses, "vectors": {}}


def _values(ask: Ask, opinion: Opinion, said: Any) -> dict[str, Any]:
    comment = {"comment": opinion.comment} if opinion.comment else {}
    if ask.mode != "rubric":
        return {"better": said} | comment
    return {f"criterion_{number}": _value(criterion, said[criterion.id])
            for number, criterion in enumerate(ask.rubric.criteria, 1)} | comment


def _value(criterion: Criterion, score: float) -> int | str:
    return str(round(score)) if criterion.scale == "binary" else round(score * TENTHS)


def _suggestions(ask: Ask, card: Card) -> dict[str, Any]:
    """People's mean; of comparisons what most say, and a tie where they are even."""
    said = [each for _, each in card.given]
    if not said:
        return {}
    if ask.mode != "rubric":
        balance = said.count("work_1") - said.count("work_2")
        values = {"better": BETTER[1 - (balance > 0) + (balance < 0)]}
    else:
        means = mean_scores(said)
        values = {f"criterion_{number}": _value(criterion, means[criterion.id])
                  for number, criterion in enumerate(ask.rubric.criteria, 1)}
    return {name: {"value": value, "score": None, "agent": "people"} for name, value in values.items()}
