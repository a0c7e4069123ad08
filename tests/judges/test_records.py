"""Rubrics, works and verdicts: read strictly, and the same on the way there and back."""
import base64

import pytest

from jaxrl_moe.judges.records import Part, Verdict, Work, verdict_of, verdict_plain, work_of
from jaxrl_moe.judges.rubric import overridden, rubric_of
from jaxrl_moe.types import UserError

LAYOUT = {"id": "layout", "weight": 0.75, "scale": "bounded", "description": "Is it tidy?"}
TITLE = {"id": "title", "weight": 0.25, "scale": "binary", "description": "Is there a title?"}
RUBRIC = {"id": "page", "criteria": [LAYOUT, TITLE]}
PNG = Part("png", base64.b64encode(b"picture").decode())


def test_a_rubric_weighs_its_scores():
    rubric = rubric_of(RUBRIC, "rubric.json")
    scores = rubric.checked({"title": 1, "layout": 0.5})
    assert list(scores) == ["layout", "title"]
    assert rubric.total(scores) == 0.75 * 0.5 + 0.25
    assert rubric_of(rubric.plain(), "again") == rubric


@pytest.mark.parametrize("scores, words", [
    ({"layout": 0.5}, "lack title"), ({"layout": 0.5, "title": 0.5}, "binary"),
    ({"layout": 2, "title": 1}, "bounded"),
    ({"layout": 0.5, "title": True}, "binary"), ({"layout": float("nan"), "title": 1}, "bounded"),
    ({"layout": 0.5, "titel": 1}, "Did you mean 'title'")])
def test_scores_that_do_not_fit_the_rubric_are_refused(scores, words):
    with pytest.raises(UserError, match=words):
        rubric_of(RUBRIC, "rubric.json").checked(scores)


@pytest.mark.parametrize("values, words", [
    ({"id": "page", "criteria": []}, "at least one"),
    ({"id": "page", "criteria": [LAYOUT, LAYOUT]}, "two criteria"),
    ({"id": "page", "criteria": [LAYOUT | {"weight": 0}]}, "above 0"),
    ({"id": "page", "criteria": [LAYOUT | {"scale": "stars"}]}, "binary, bounded"),
    ({"id": "page", "criteria": [LAYOUT | {"wight": 1}]}, "wight"), ([], "object")])
def test_a_rubric_that_is_none_is_refused(values, words):
    with pytest.raises(UserError, match=words):
        rubric_of(values, "rubric.json")


def test_overrides_replace_fields_of_criteria():
    rubric = overridden(rubric_of(RUBRIC, "r"), {"title": {"weight": 1.0}}, "rubric_overrides")
    assert [criterion.weight for criterion in rubric.criteria] == [0.75, 1.0]
    with pytest.raises(UserError, match="Did you mean 'title'"):
        overridden(rubric, {"titles": {}}, "rubric_overrides")


def test_works_and_verdicts_are_the_same_there_and_back():
    work = Work("Build a page.", ("<p>", "<p>better"), (Part("html", "<p>better"), PNG), "g", 4)
    assert work_of(work.plain(), "trace") == work
    assert PNG.picture == b"picture"
    verdict = Verdict(0.5, {"layout": 0.5}, (0.25, 1.0), "gpt-oss-120b", '{"layout": 0.5}')
    assert verdict_of(verdict_plain(verdict), "answer") == verdict


def test_a_digest_tells_what_a_judge_sees_and_no_more():
    work = Work("t", ("a",))
    assert Work("t", ("a",), group="g", group_size=4).digest() == work.digest()
    others = [Work("u", ("a",)), Work("t", ("b",)), Work("t", ("a",), (PNG,))]
    assert len({each.digest() for each in (work, *others)}) == 4


@pytest.mark.parametrize("trace, words", [
    ({"turns": "x"}, "list"), ({"turns": []}, "nothing to judge"),
    ({"artifacts": [{"kind": "gif", "content": ""}]}, "png"),
    ({"artifacts": [{"kind": "png", "content": "?"}]}, "base64"), ({"turns": [{}]}, "text"), (3, "object")])
def test_a_trace_that_is_none_is_refused(trace, words):
    with pytest.raises(UserError, match=words):
        work_of(trace, "trace")


def test_a_trace_of_another_form_is_judged_as_its_json():
    assert work_of({"event_history": [1]}, "trace").turns == ('{"event_history": [1]}',)
