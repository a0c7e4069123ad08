"""Briefs, the rules that what is written for them is held to, and pages from an answer to a judge."""
import base64
import re
import threading

import pytest

from jaxrl_moe.envs.web.render import MOST_HTML, Rendered
from jaxrl_moe.serving.tasks.agora import briefs
from jaxrl_moe.serving.tasks.agora.briefs import SUBJECTS, brief, count, mentioned
from jaxrl_moe.serving.tasks.agora.markup import has_markup, page_of, text_of
from jaxrl_moe.serving.tasks.agora.pages import AgoraPages, PageEpisode
from jaxrl_moe.serving.tasks.agora.texts import AgoraTexts
from jaxrl_moe.serving.tasks.stop import Stop
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.task_apps import good_text, policy, request, task_app


@pytest.mark.parametrize("form, number", [("page", 12 * 20 * 6 * 5 * 6), ("text", 12 * 20 * 5 * 3)])
def test_each_seed_has_another_brief(form, number):
    assert count(form) == number
    every = {brief(form, seed) for seed in range(number)}
    assert len(every) == number and brief(form, 5) == brief(form, 5)
    first = [brief(form, seed) for seed in range(200)]
    assert {each.who for each in first} == {who for who, _ in SUBJECTS}
    assert all(len(set(column)) == len(options) for column, options in zip(
        zip(*(each.form for each in first)), briefs._FORMS[form]))


def test_no_phrase_is_part_of_another_of_its_subject():
    for phrases in SUBJECTS.values():
        assert len(phrases) == 6
        assert not [(one, two) for one in phrases for two in phrases if one != two and mentioned(one, two)]


def test_instances_have_an_end():
    with pytest.raises(UserError, match="no instance 3600 of agora_ex_text: it has 3600"):
        AgoraTexts().open(3600)


@pytest.mark.parametrize("text, page", [
    ("```html\n<h1>x</h1>\n```", "<h1>x</h1>"), ("```html\n<p>cut off", "<p>cut off"),
    ("Well:\n```html\n<p>1\n```\nbetter:\n```html\n<p>2\n```", "<p>2"),
    ("<think>```html\n<p>no\n```</think>```HTML\n<p>yes\n```", "<p>yes"),
    ("Here: <!DOCTYPE html><p>x</p>", "<!DOCTYPE html><p>x</p>"), ("text <HTML><p>", "<HTML><p>"),
    ("no page", ""), ("", ""), ("```python\nprint(1)\n```", ""), ("```\n<p>x</p>\n```", "<p>x</p>"),
    ("<think>never ends <html>", "<html>")])
def test_the_page_in_an_answer(text, page):
    assert page_of(text) == page


@pytest.mark.parametrize("text, expected", [
    ("Hello", "Hello"), ("<think>x</think>\n Hello ", "Hello"), ("```\nHello\n```", "Hello"),
    ("```text\na\n\nb\n```", "a\n\nb"), ("a ```b``` c", "a ```b``` c")])
def test_the_text_in_an_answer(text, expected):
    assert text_of(text) == expected


@pytest.mark.parametrize("text, expected", [
    ("# a", True), ("a\n#b", True), ("a #b", False), ("**", True), ("a*b", False), ("___", True),
    ("a___", False), ("[a](b)", True), ("a < b > c", False), ("<b>", True), ("</p>", True), ("<b\n>", False),
    ("x <b y", False), ("x > <b", False), ("<1> <b c>", True), ("a <b\n<i>", True)])
def test_signs_of_markup(text, expected):
    assert has_markup(text) == expected


def look(text, seed=0):
    return AgoraTexts().open(seed).look(text, Stop())


def test_a_text_that_keeps_all_rules_has_no_findings():
    for seed in range(0, 3600, 97):
        seen = look(good_text(seed), seed)
        assert seen.score == 1 and not seen.findings and seen.parts[0].content == good_text(seed)
        assert seen.checks.keys() == AgoraTexts.checks.keys()


def test_each_rule_of_texts_can_be_broken_alone():
    good = good_text()
    facts = AgoraTexts().open(0).facts
    broken = {"has_headline": good.replace("\n\n", "\n", 1), "has_length": good + " word" * 200,
              "no_markup": good + " **bold**"}
    broken |= {f"mentions_{number}": good.replace(item, "word " * len(item.split()))
               for number, item in enumerate(facts["items"], 1)}
    for rule, text in broken.items():
        seen = look(text)
        assert [name for name, kept in seen.checks.items() if not kept] == [rule], rule
        assert len(seen.findings) == 1 and seen.score == pytest.approx(6 / 7)
    for text in ("", "<think>x</think>", "x" * 30_000):
        seen = look(text)
        assert seen.score == 0 and not seen.parts and len(seen.findings) == 1


class Shown:
    """A renderer that says what it is told to say."""
    width, height = 1280, 800

    def __init__(self, **facts):
        self.pages = []
        self._facts = dict(png=b"PNG", title="t", headings=("h",), text="", outside=(), width=1280,
                           height=800, loads=()) | facts

    def render(self, page, started):
        self.pages.append(page)
        return Rendered(**self._facts)


def page_look(answer, **facts):
    asked = brief("page", 0)
    shown = Shown(**({"text": " ".join(asked.items).upper()} | facts))
    return PageEpisode(asked, shown, threading.BoundedSemaphore(1)).look(answer, Stop()), shown


@pytest.mark.parametrize("rule, facts, page", [
    ("has_title", {"title": ""}, "<p>"), ("has_heading", {"headings": (" ",)}, "<p>"),
    ("mentions_1", {"text": " ".join(brief("page", 0).items[1:])}, "<p>"),
    ("mentions_3", {"text": "\n".join(brief("page", 0).items[:2])}, "<p>"),
    ("self_contained", {"loads": ("x",)}, "<p>"), ("fits_viewport", {"outside": ("p: far",)}, "<p>"),
    ("fits_viewport", {"height": 801}, "<p>"), ("fits_viewport", {"width": 1281}, "<p>"), (None, {}, "<p>")])
def test_each_rule_of_pages_can_be_broken_alone(rule, facts, page):
    seen, _ = page_look(f"```html\n{page}\n```", **facts)
    assert [name for name, kept in seen.checks.items() if not kept] == [rule] * bool(rule)
    assert len(seen.findings) == bool(rule) and seen.checks.keys() == AgoraPages.checks.keys()
    assert [part.kind for part in seen.parts] == ["html", "png"] and seen.parts[1].picture == b"PNG"


def test_an_answer_without_a_page_is_not_shown():
    large = "```html\n<p>" + "x" * MOST_HTML
    for text, why in (("Sorry.", "no HTML document"), (large, f"at most {MOST_HTML}")):
        seen, shown = page_look(text)
        assert not shown.pages and not seen.parts and seen.score == 0 and re.search(why, seen.findings[0])


class Failing(Shown):
    """A renderer that shows nothing with <loop>, or where it is broken nothing at all."""
    broken = False

    def render(self, page, started):
        if self.broken or "<loop>" in page:
            raise EnvError(Status.TIMED_OUT, "The browser did not show a page.")
        return super().render(page, started)


def test_a_page_that_no_browser_shows_keeps_no_rule_and_a_browser_that_shows_none_is_no_fault_of_it():
    failing = Failing()
    episode = PageEpisode(brief("page", 0), failing, threading.BoundedSemaphore(1))
    seen = episode.look("```html\n<loop>\n```", Stop())
    assert seen.score == 0 and not seen.parts and "cannot show" in seen.findings[0]
    assert len(failing.pages) == 1  # a plain one
    failing.broken = True
    with pytest.raises(EnvError, match="did not show"):
        episode.look("```html\n<loop>\n```", Stop())


GOOD = """<!doctype html><html><head><title>{who}</title><style>body {{margin: 0; font: 20px sans-serif}}
main {{width: 1200px; margin: 20px auto}}</style></head>
<body><main><h1>{who}</h1><ul>{items}</ul></main></body></html>"""


def test_a_page_goes_from_the_policy_over_the_browser_to_the_answer():
    try:
        task = AgoraPages()
        task.prepare()
    except (UserError, EnvError) as error:
        pytest.skip(f"pages cannot be shown here: {error}")
    facts = task.open(3).facts
    items = "".join(f"<li>{item}</li>" for item in facts["items"])
    good = "```html\n" + GOOD.format(who=facts["who"], items=items) + "\n```"
    bad = "```html\n<h1>x</h1><img src='http://127.0.0.1:1/x.png'><div style='width: 2000px'>wide</div>\n```"
    with task_app(task) as (http, _), policy(bad, good) as (url, asked):
        body = request(url, seed=3, record={"return_trace": True})
        body["env"]["env_name"] = "agora-ex"
        answer = http.post("/rollout", json=body)
    assert answer.status_code == 200, answer.text
    answer = answer.json()
    first, second = answer["trajectories"][0]["steps"]
    assert first["info"]["achievements"] == ["has_page", "has_heading"] and second["reward"] == 1
    assert "Beyond that are: div: wide" in second["obs"]["text"] and "x.png" in second["obs"]["text"]
    html, png = answer["trace"]["artifacts"]
    assert html["kind"] == "html" and html["content"] in good
    assert base64.b64decode(png["content"])[:8] == b"\x89PNG\r\n\x1a\n"
    assert answer["metrics"]["outcome_score"] == 1
    assert facts["items"][0] in asked[0].body["messages"][1]["content"]
