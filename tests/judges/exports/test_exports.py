"""Exports: all of it and no token, the documented shapes of other programs with the same scores read back,
and preferences as the answers say."""
import dataclasses
import json
import re
import uuid
import xml.etree.ElementTree as ET
from typing import Literal

import pydantic
import pytest

from jaxrl_moe.judges.exports.export import export
from jaxrl_moe.judges.queue.queue import Given, QueueError
from jaxrl_moe.judges.queue.rows import ask_id
from jaxrl_moe.judges.queue.sql import SqlQueue
from jaxrl_moe.judges.records import Part, verdict_of, work_of
from tests.helpers.judged import BY_RUBRIC, RANKING, best_first, group, number_of, scored, work

MINUTES = 600.0
ACCOUNT = str(uuid.UUID(int=7))
PICTURE = Part("png", "iVBORw0KGgo=")


def hostile(number):
    return Part("html", f"<script>alert({number})</script>\0")


class Strict(pydantic.BaseModel, extra="forbid", strict=True):
    """A shape with no field beyond."""


@pytest.fixture
def queue(tmp_path):
    queue = SqlQueue(f"sqlite:///{tmp_path}/queue.db", overlap=2, gold_share=1.0)
    queue.tokens = [queue.add_judge(name) for name in ("ann", "bob")]
    queue.add_gold(work(9), BY_RUBRIC, {"layout": 0.75, "title": 1})
    works = [work(0), *(dataclasses.replace(work(number), parts=(hostile(number), PICTURE))
                        for number in (1, 2))]
    queue.items = [queue.put(each, BY_RUBRIC) for each in works]
    queue.items += [queue.put(each, RANKING) for each in group(3)]
    for name in ("ann", "bob"):
        while lease := queue.lease(name, MINUTES):
            queue.answer(name, lease.token, given(lease, name))
    yield queue
    queue.close()


def given(lease, name):
    """Ann finds the works of a ranking better the higher their number; to Bob the best two are equal."""
    if lease.ask.mode == "rubric":
        layout = number_of(lease.works[0]) / 10 + (0.04 if name == "bob" else 0.0)
        return scored(layout, int(name == "ann"), comment=f"by {name}", seconds=2.5)
    if name == "ann":
        return best_first(lease)
    (worst,) = [place for place, shown in enumerate(lease.works) if number_of(shown) == 0]
    return Given(order=(tuple({0, 1, 2} - {worst}), (worst,)))


def written(queue, path, form, **options):
    count = export(queue, form, path, **options)
    return count, path


def test_the_lines_hold_all_and_no_token(queue, tmp_path):
    count, path = written(queue, tmp_path / "all.jsonl", "jsonl")
    text = path.read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == count == 2 + 5 + 6
    assert not any(token in text for token in queue.tokens) and "hash" not in text
    questions = {row["id"]: row for row in rows if row["record"] == "question"}
    items = {row["id"]: row for row in rows if row["record"] == "item"}
    assert set(items) == set(queue.items)
    for name, item in items.items():  # rewards, recomputed from the answers, are those of the verdicts
        question = questions[item["questions"][0]["question"]]
        place = question["digests"].index(item["digest"])
        assert work_of(question["works"][place], "it").digest() == item["digest"]
        rewards = [reward(question, answer, place) for answer in question["answers"] if answer["counts"]]
        assert len(rewards) == 2
        verdict = verdict_of(item["verdicts"]["people"], name)
        assert verdict == queue.state(name).verdict and verdict.reward == pytest.approx(sum(rewards) / 2)
    assert [row["gold"] for row in questions.values() if row["gold"]] == [{"layout": 0.75, "title": 1}]


def reward(question, answer, place):
    if question["mode"] == "rubric":
        return sum(criterion["weight"] * answer["scores"][criterion["id"]]
                   for criterion in question["rubric"]["criteria"])
    rank = {position: at for at, tied in enumerate(answer["order"]) for position in tied}
    return sum((rank[place] < rank[other]) + (rank[place] == rank[other]) / 2
               for other in rank if other != place) / (len(rank) - 1)


class Response(Strict):
    value: int | str
    user_id: str
    status: Literal["submitted"]


class Suggestion(Strict):
    value: int | str
    score: None
    agent: str


class Record(Strict):
    id: str
    fields: dict[str, str]
    metadata: dict[str, str | int]
    suggestions: dict[str, Suggestion]
    responses: dict[str, list[Response]]
    vectors: dict[str, list[float]]


def test_argilla_gets_a_dataset_with_suggestions_and_responses(queue, tmp_path):
    count, folder = written(queue, tmp_path / "pages", "argilla", ask=ask_id(BY_RUBRIC)[:8],
                            users={"ann": ACCOUNT})
    settings = json.loads((folder / ".argilla" / "settings.json").read_text())
    assert json.loads((folder / ".argilla" / "dataset.json").read_text())["name"] == "pages"
    records = [Record.model_validate(each) for each in json.loads((folder / "records.json").read_text())]
    assert len(records) == count == 4
    fields = {field["name"]: field for field in settings["fields"]}
    assert fields["picture_1_1"]["settings"] == {"type": "image"} and not fields["work_1"]["required"]
    options = {question["name"]: [option["value"] for option in question["settings"].get("options", [])]
               for question in settings["questions"]}
    assert options == {"criterion_1": list(range(11)), "criterion_2": ["0", "1"], "comment": []}
    for record in records:
        assert set(record.fields) <= set(fields) and "task" in record.fields
        for name, suggestion in record.suggestions.items():
            assert suggestion.value in options[name]
        number = int(re.search(r"\d", record.fields["work_1"])[0])
        assert record.responses["criterion_1"] == [
            Response(value=number, user_id=ACCOUNT, status="submitted")]
        assert record.suggestions["criterion_1"].value == number  # of n / 10 and n / 10 + 0.04
        assert record.responses["comment"][0].value == "by ann"
        assert record.metadata["is_gold"] == str(number == 9) and record.metadata["answers"] == 2
    with pytest.raises(QueueError, match="exists"):
        export(queue, "argilla", folder, ask=ask_id(BY_RUBRIC)[:8])
    with pytest.raises(QueueError, match="UUID"):
        export(queue, "argilla", tmp_path / "other", ask=ask_id(BY_RUBRIC)[:8], users={"ann": "ann"})
    assert sorted(path.name for path in tmp_path.iterdir() if "queue.db" not in path.name) == ["pages"]


def test_rankings_become_pairs(queue, tmp_path):
    count, folder = written(queue, tmp_path / "pairs", "argilla", ask=ask_id(RANKING)[:8],
                            users={"bob": ACCOUNT})
    records = [Record.model_validate(each) for each in json.loads((folder / "records.json").read_text())]
    assert count == 3
    for record in records:
        numbers = [int(record.fields[name][3:]) for name in ("work_1", "work_2")]
        better = "work_1" if numbers[0] > numbers[1] else "work_2"
        assert record.suggestions["better"].value == better
        assert record.responses["better"][0].value == ("tie" if 0 not in numbers else better)


class Result(Strict):
    id: str
    from_name: str
    to_name: str
    type: Literal["number", "choices", "textarea"]
    value: dict[str, float | list[str]]


class Annotation(Strict):
    result: list[Result]
    was_cancelled: bool
    ground_truth: bool
    lead_time: float


class Task(Strict):
    data: dict[str, str | list[str]]
    annotations: list[Annotation]
    predictions: list[dict]


def test_label_studio_gets_tasks_that_fit_their_configuration(queue, tmp_path):
    for ask, size in ((BY_RUBRIC, 4), (RANKING, 3)):
        count, path = written(queue, tmp_path / "tasks.json", "label-studio", ask=ask_id(ask)[:8])
        view = ET.parse(tmp_path / "tasks.json.xml").getroot()
        controls = {each.get("name"): each for each in view.iter() if each.get("toName")}
        shown = {each.get("value")[1:] for each in view.iter() if each.get("value", "").startswith("$")}
        assert not {each.tag for each in view.iter()} & {"HyperText", "Style"}  # nothing of a model's is run
        tasks = [Task.model_validate(each) for each in json.loads(path.read_text())]
        assert len(tasks) == count == size
        for task in tasks:
            assert shown <= set(task.data)
            for annotation in task.annotations:
                for result in annotation.result:
                    control = controls[result.from_name]
                    assert control.tag.lower() == result.type and control.get("toName") == result.to_name
                    if result.type == "choices":
                        assert result.value["choices"][0] in {each.get("value") for each in control}
            assert len({result.id for each in task.annotations for result in each.result}) == sum(
                len(each.result) for each in task.annotations)
            assert len(task.data["judges"]) == sum(not each.ground_truth for each in task.annotations) == 2
    _, path = written(queue, tmp_path / "rubric.json", "label-studio", ask=ask_id(BY_RUBRIC)[:8])
    (gold,) = [each for each in json.loads(path.read_text()) if each["data"]["work_1"] == "<p>9"]
    values = [[result["value"] for result in annotation["result"]] for annotation in gold["annotations"]]
    assert values[0] == [{"number": 0.75}, {"choices": ["1"]}]
    assert values[2] == [{"number": pytest.approx(0.94)}, {"choices": ["0"]}, {"text": ["by bob"]}]


def test_preferences_follow_from_comparisons_and_scores(queue, tmp_path):
    _, path = written(queue, tmp_path / "pairs.jsonl", "preferences")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    compared = {(row["chosen"], row["rejected"]): row["margin"] for row in rows
                if row["source"] == "comparison"}
    assert compared == {("<p>1", "<p>0"): 1.0, ("<p>2", "<p>0"): 1.0, ("<p>2", "<p>1"): 0.5}
    by_score = [row for row in rows if row["source"] == "scores"]
    assert len(by_score) == 3 and {row["answers"] for row in by_score} == {4}
    assert sorted(row["margin"] for row in by_score) == pytest.approx([0.075, 0.075, 0.15])
    assert {row["prompt"] for row in rows} == {"Build a page."}
    assert export(queue, "preferences", path, margin=0.5) == 2


@pytest.mark.parametrize("form, options, words", [
    ("argila", {}, "Did you mean 'argilla'"), ("argilla", {}, "--ask"),
    ("label-studio", {"ask": "zz"}, "begins with 'zz'")])
def test_what_cannot_be_exported_is_refused(queue, tmp_path, form, options, words):
    with pytest.raises(QueueError, match=words):
        export(queue, form, tmp_path / "out", **options)
    with pytest.raises(QueueError, match="does not exist"):
        export(queue, "jsonl", tmp_path / "none" / "out")
    empty = SqlQueue(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(QueueError, match="empty"):
        export(empty, "argilla", tmp_path / "out")
    empty.close()
