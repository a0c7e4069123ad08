"""A page of HTML for a brief: rules look at its code and at what a browser shows of it, a judge at the
picture."""
import base64
import threading
from collections.abc import Sequence
from typing import ClassVar

from jaxrl_moe.envs.web.render import MOST_HTML, Rendered, Renderer
from jaxrl_moe.judges.records import Part
from jaxrl_moe.judges.rubric import Rubric
from jaxrl_moe.judges.rubrics import SHIPPED, read_rubrics
from jaxrl_moe.serving.tasks.agora.briefs import ITEMS, Brief, brief, count, listed, mentioned
from jaxrl_moe.serving.tasks.agora.markup import page_of
from jaxrl_moe.serving.tasks.stop import Stop
from jaxrl_moe.serving.tasks.task import AppEpisode, AppTask, Look
from jaxrl_moe.spelling import cut, escaped
from jaxrl_moe.types import EnvError, Messages

AT_ONCE = 4  # browsers; others wait
_PLAIN = "<title>a page</title><h1>A page</h1>"  # that any browser can show
_SYSTEM = ("You build web pages. Answer with one complete HTML document in a block of code marked html, with "
           "its styles inside it. It must not use scripts, and nothing that is loaded from elsewhere: no "
           "pictures, fonts or style sheets by URL.")
_FORM = """Build the web page of {who}, {what}.
These phrases must be seen on it, word for word:
{items}
Its style is {style}; its colours are {colours}; its layout is {layout}.
It has a title and a heading with the name, and is seen whole at {width} x {height} without scrolling."""


class AgoraPages(AppTask):
    """Pages of HTML.

    Args:
      browser: path of Chromium; empty: it is sought.

    Raises:
      UserError: there is no browser, or no sandbox for it.
    """
    name: ClassVar = "agora_ex"
    summary: ClassVar = "Build a web page for a brief; it is judged by its picture and its code."
    tool: ClassVar = ("submit_page", "html", "hands in a complete HTML document")
    count: ClassVar = count("page")
    rubric: ClassVar[Rubric] = read_rubrics(SHIPPED / "agora_page.json")["agora_page"]
    checks: ClassVar = {
        "has_page": "there is an HTML document", "has_title": "it has a title",
        "has_heading": "a heading is seen",
        **{f"mentions_{number}": f"phrase {number} is seen" for number in range(1, ITEMS + 1)},
        "self_contained": "it loads nothing from elsewhere and has no script",
        "fits_viewport": "it is seen whole without scrolling"}

    def __init__(self, browser: str = ""):
        self._renderer = Renderer(browser)
        self._turn = threading.BoundedSemaphore(AT_ONCE)

    def prepare(self) -> None:
        """Shows a page, so that a machine whose sandbox does not work says so before it is needed."""
        self._renderer.render(_PLAIN)

    def _instance(self, seed: int) -> "PageEpisode":
        return PageEpisode(brief("page", seed), self._renderer, self._turn)


class PageEpisode(AppEpisode):
    """A brief, and the browser that shows what is made of it."""

    def __init__(self, asked: Brief, renderer: Renderer, turn: threading.BoundedSemaphore):
        style, layout, colours = asked.form
        self._asked = asked
        self._renderer = renderer
        self._turn = turn
        self.brief = _FORM.format(who=asked.who, what=asked.what, items=listed(asked.items), style=style,
                                  colours=colours, layout=layout, width=renderer.width,
                                  height=renderer.height)
        self.facts = {"who": asked.who, "what": asked.what, "items": list(asked.items), "style": style,
                      "layout": layout, "colours": colours, "viewport": [renderer.width, renderer.height]}

    def begin(self) -> Messages:
        return {"role": "system", "content": _SYSTEM}, {"role": "user", "content": self.brief}

    def look(self, text: str, stop: Stop) -> Look:
        page = page_of(text)
        size = len(page.encode(errors="replace"))
        if not page or size > MOST_HTML:
            why = (f"The document has {size} bytes; at most {MOST_HTML} are shown." if page else
                   "The answer has no HTML document in a block of code marked html.")
            return Look("", (), dict.fromkeys(AgoraPages.checks, False), (why,))
        with self._turn:
            stop.check()
            seen = self._shown(page, stop)
        if seen is None:
            why = "The browser cannot show the document: it takes too long, or too much memory."
            return Look("", (), dict.fromkeys(AgoraPages.checks, False), (why,))
        parts = (Part("html", page), Part("png", base64.b64encode(seen.png).decode()))
        checks = self._checked(seen)
        return Look(page, parts, checks, tuple(self._findings(seen, checks)))

    def _shown(self, page: str, stop: Stop) -> Rendered | None:
        """The page as it is seen; None where it cannot be, and a plain one can: then it is the page's own
        fault, and no failure that would spare the policy a bad score."""
        try:
            return self._renderer.render(page, stop.hold)
        except EnvError:
            stop.check()
            self._renderer.render(_PLAIN, stop.hold)
            return None

    def _checked(self, seen: Rendered) -> dict[str, bool]:
        items = {f"mentions_{number}": mentioned(item, seen.text)
                 for number, item in enumerate(self._asked.items, 1)}
        fits = (not seen.outside and seen.width <= self._renderer.width
                and seen.height <= self._renderer.height)
        return {"has_page": True, "has_title": bool(seen.title),
                "has_heading": any(each.strip() for each in seen.headings), **items,
                "self_contained": not seen.loads, "fits_viewport": fits}

    def _findings(self, seen: Rendered, checks: dict[str, bool]) -> list[str]:
        size = f"{self._renderer.width} x {self._renderer.height}"
        told = {"has_title": "The document has no title.", "has_heading": "No heading (h1 to h6) is seen.",
                "self_contained": f"It loads from elsewhere or has scripts: {_named(seen.loads)}.",
                "fits_viewport": f"It takes {seen.width} x {seen.height} pixels, and {size} are seen. Beyond "
                                 f"that are: {_named(seen.outside)}."}
        told |= {f"mentions_{number}": f'The phrase "{item}" is not seen.'
                 for number, item in enumerate(self._asked.items, 1)}
        return [told[name] for name, kept in checks.items() if not kept]


def _named(found: Sequence[str]) -> str:
    """Some of what was found, as a policy is told it."""
    return ", ".join(cut(escaped(each), 60) for each in found[:5]) or "nothing in particular"
