"""Label Studio's import format: a list of tasks with their annotations, and the labeling configuration that
they need. What models wrote is shown there as text, never as a page."""
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from typing import Any

from jaxrl_moe.judges.exports.records import BETTER, Card, pictures_of, text_of
from jaxrl_moe.judges.records import Ask
from jaxrl_moe.judges.rubric import Criterion

_NAMES = uuid.UUID("6a53b0f6-3a0b-4f53-9d46-6f4c32f1a1de")  # of results' ids, so that an export is repeatable


def configuration(ask: Ask, cards: Sequence[Card]) -> str:
    """The labeling configuration, XML."""
    view = ET.Element("View")
    ET.SubElement(view, "Text", name="task", value="$task")
    for number, pictures in enumerate(_pictures(ask, cards), 1):
        ET.SubElement(view, "Header", value=f"Work {number}")
        ET.SubElement(view, "Text", name=f"work_{number}", value=f"$work_{number}")
        for place in range(1, pictures + 1):
            name = f"picture_{number}_{place}"
            ET.SubElement(view, "Image", name=name, value=f"${name}")
    for name, criterion in _criteria(ask):
        ET.SubElement(view, "Header", value=_printable(f"{criterion.id}: {criterion.description}"))
        if criterion.scale == "binary":
            _choices(view, name, ("0", "1"))
        else:
            ET.SubElement(view, "Number", name=name, toName="work_1", min="0", max="1", step="any")
    if ask.mode != "rubric":
        ET.SubElement(view, "Header", value="Which is better?")
        _choices(view, "better", BETTER)
    ET.SubElement(view, "TextArea", name="comment", toName="work_1")
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def tasks(ask: Ask, cards: Sequence[Card]) -> Iterator[dict[str, Any]]:
    """Yields tasks; a gold item's right scores are an annotation that is marked as ground truth. `judges` in
    their data are those of the other annotations, in their order."""
    widths = _pictures(ask, cards)
    for card in cards:
        data: dict[str, Any] = {"task": card.works[0].task, "question": card.id,
                                "judges": [opinion.judge for opinion, _ in card.given]}
        for number, (work, width) in enumerate(zip(card.works, widths, strict=True), 1):
            data[f"work_{number}"] = text_of(work)
            pictures = pictures_of(work)
            for place in range(1, width + 1):
                data[f"picture_{number}_{place}"] = pictures[place - 1] if place <= len(pictures) else ""
        yield {"data": data, "annotations": list(_annotations(ask, card)), "predictions": []}


def _pictures(ask: Ask, cards: Sequence[Card]) -> list[int]:
    """Of each place of a work, the most pictures that one has there."""
    places = range(1 if ask.mode == "rubric" else 2)
    return [max((len(pictures_of(card.works[place])) for card in cards), default=0) for place in places]


def _criteria(ask: Ask) -> list[tuple[str, Criterion]]:
    if ask.mode != "rubric":
        return []
    return [(f"criterion_{number}", criterion) for number, criterion in enumerate(ask.rubric.criteria, 1)]


def _choices(view: ET.Element, name: str, values: Sequence[str]) -> None:
    choices = ET.SubElement(view, "Choices", name=name, toName="work_1", choice="single")
    for value in values:
        ET.SubElement(choices, "Choice", value=value)


def _annotations(ask: Ask, card: Card) -> Iterator[dict[str, Any]]:
    if card.gold is not None:
        yield _annotation(ask, f"{card.id} gold", card.gold, "", 0.0, True)
    for opinion, said in card.given:
        yield _annotation(ask, f"{card.id} {opinion.judge}", said, opinion.comment, opinion.seconds, False)


def _annotation(ask: Ask, name: str, said: Any, comment: str, seconds: float,
                is_gold: bool) -> dict[str, Any]:
    results = [_scored(control, criterion, said[criterion.id]) for control, criterion in _criteria(ask)]
    if ask.mode != "rubric":
        results.append(_result("better", "choices", {"choices": [said]}))
    if comment:
        results.append(_result("comment", "textarea", {"text": [comment]}))
    for result in results:
        result["id"] = uuid.uuid5(_NAMES, f"{name} {result['from_name']}").hex[:10]
    return {"result": results, "was_cancelled": False, "ground_truth": is_gold, "lead_time": seconds}


def _scored(control: str, criterion: Criterion, score: float) -> dict[str, Any]:
    if criterion.scale == "binary":
        return _result(control, "choices", {"choices": [str(round(score))]})
    return _result(control, "number", {"number": score})


def _result(control: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"from_name": control, "to_name": "work_1", "type": kind, "value": value}


def _printable(text: str) -> str:
    """Without what XML has no character for."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
