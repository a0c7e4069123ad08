"""Whatever a policy writes, its readers are done in time that goes by its length."""
import contextlib
import threading

import pytest

from jaxrl_moe.envs.text.answers import last_command, only_command
from jaxrl_moe.envs.web.loads import loads_of
from jaxrl_moe.envs.web.render import MOST_HTML, Rendered
from jaxrl_moe.judges.chat import answer_fields
from jaxrl_moe.judges.questions import ranking_question, rubric_question
from jaxrl_moe.judges.records import Ask, Part, Work
from jaxrl_moe.judges.rubrics import read_rubrics
from jaxrl_moe.serving.judges.page.made import frame
from jaxrl_moe.serving.tasks.agora.briefs import brief, mentioned
from jaxrl_moe.serving.tasks.agora.markup import has_markup, page_of, text_of
from jaxrl_moe.serving.tasks.agora.pages import AgoraPages, PageEpisode
from jaxrl_moe.serving.tasks.agora.texts import LONGEST, AgoraTexts
from jaxrl_moe.serving.tasks.stop import Stop
from jaxrl_moe.types import UserError
from tests.helpers.degenerate import PATTERNS, linear

pytestmark = pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in PATTERNS.items()])
RUBRIC = read_rubrics()["agora_page"]
WORKS = (Work("task", ("a",)), Work("task", ("b",)))


def test_readers_of_an_answer(text):
    for reader in (page_of, text_of, has_markup, last_command, only_command, frame):
        with linear():
            reader(text)
    with linear():
        assert not mentioned("Rye bread", text)


def snapshot(tag, attribute, text):
    """Of a page with one element that holds a text, as an attribute and within."""
    strings = ["#document", tag, "#text", attribute, text]
    nodes = {"nodeName": [0, 1, 2], "parentIndex": [-1, 0, 1], "nodeValue": [-1, -1, 4],
             "attributes": [[], [3, 4], []]}
    return {"strings": strings, "documents": [{}, {"nodes": nodes}]}


@pytest.mark.parametrize("tag, attribute", [("STYLE", "style"), ("META", "content"), ("A", "href")])
def test_readers_of_what_a_page_loads(tag, attribute, text):
    with linear():
        loads_of(snapshot(tag, attribute, text))


@pytest.mark.parametrize("attribute", ["style", "src", "title"])
def test_elements_that_a_browser_repeats(attribute, text):
    count = 50_000
    nodes = {"nodeName": [0] + [1] * count, "parentIndex": [-1] + [0] * count,
             "nodeValue": [-1] * (count + 1), "attributes": [[]] + [[3, 4]] * count}
    shown = snapshot("B", attribute, text)
    with linear():
        assert loads_of(shown | {"documents": [{}, {"nodes": nodes}]}) == loads_of(shown)


class Shown:
    """A renderer that sees a page as its own source."""
    width, height = 1280, 800

    def render(self, page, started):
        assert len(page.encode()) <= MOST_HTML
        return Rendered(png=b"PNG", title=page, headings=(page,), text=page, outside=(page,), width=9999,
                        height=800, loads=tuple(loads_of(snapshot("STYLE", "src", page))))


def test_what_comes_of_a_turn(text):
    page = PageEpisode(brief("page", 0), Shown(), threading.BoundedSemaphore(1))
    for written in (text, f"```html\n<p>{text[:MOST_HTML - 3]}", text[:LONGEST]):
        for episode, task in ((page, AgoraPages), (AgoraTexts().open(0), AgoraTexts)):
            with linear():
                seen = episode.look(written, Stop())
            assert seen.findings and seen.checks.keys() == task.checks.keys()
            assert all(len(finding) < 1000 for finding in seen.findings)


@pytest.mark.parametrize("wrapped", [
    "{}", '{{"rationale": "", "scores": {{"{}": 1}}}}', '{{"ranking": ["{}"]}}'])
def test_readers_of_a_judges_answer(wrapped, text):
    """Which may hold what it has read."""
    work = Work("task", (text,), (Part("html", text),))
    with linear():
        questions = [rubric_question(work, Ask(RUBRIC), False), ranking_question(WORKS, RUBRIC, False)]
        for question in questions:
            with contextlib.suppress(UserError):
                assert not question.read(answer_fields(wrapped.format(text)))
