"""A page of HTML becomes a picture, and facts that can be checked."""
import base64
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

from jaxrl_moe.envs.web.devtools import BrowserError, DevTools
from jaxrl_moe.envs.web.loads import loads_of
from jaxrl_moe.envs.web.sandbox import browser_path, shut_in
from jaxrl_moe.sandbox.life import SandboxError
from jaxrl_moe.sandbox.pipes import high_pipe
from jaxrl_moe.sandbox.records import Cause
from jaxrl_moe.sandbox.shut_in import ShutIn
from jaxrl_moe.spelling import cut, escaped
from jaxrl_moe.types import EnvError, Status

MOST_HTML = 2**18   # bytes of a page
MOST_PNG = 2**23    # bytes of a picture
_OPTIONS = ("--headless=new", "--remote-debugging-pipe", "--user-data-dir=/tmp/profile", "--no-first-run",
            "--disable-gpu", "--hide-scrollbars", "--mute-audio", "--disable-extensions", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--disable-breakpad",
            "--force-color-profile=srgb", "--host-resolver-rules=MAP * ~NOTFOUND",
            "--disable-features=IsolateSandboxedIframes")  # a frame is asked by the same session as its page
_DATA = "data:text/html;charset=utf-8;base64,"
# The page stands in a frame of ours, whose sandbox keeps it from leading the browser elsewhere, by a refresh,
# a form or a link, while it is looked at.
_FRAME = """<!doctype html><title>frame</title><style>* {{margin: 0; border: 0; padding: 0; overflow: hidden}}
iframe {{display: block; width: {width}px; height: {height}px}}</style>
<iframe sandbox="{allowed}" src="{url}"></iframe>"""
_EVALUATION_MS = 5000

# Runs in a world of its own, which no script of the page reaches. The page's elements can still take the
# place of the document's properties by their names; that of the prototypes' they cannot.
_FACTS = """(() => {
  const all = Document.prototype.querySelectorAll.call(document, "*");
  const root = all[0];
  const bodies = [root, ...[...all].filter(each => each.tagName === "BODY").slice(0, 1)];
  const width = %d;
  const height = %d;
  const visible = [...all].slice(0, 5000).filter(each => Element.prototype.checkVisibility.call(each));
  const told = each => each.tagName.toLowerCase() + ": " + (each.textContent || "").trim().slice(0, 40);
  const outside = visible.filter(each => {
    const box = Element.prototype.getBoundingClientRect.call(each);
    const seen = box.width > 0 && box.height > 0;
    return seen && (box.left < -1 || box.top < -1 || box.right > width + 1 || box.bottom > height + 1);
  });
  const headings = visible.filter(each => /^H[1-6]$/.test(each.tagName)).slice(0, 50);
  const titles = [...Document.prototype.querySelectorAll.call(document, "head > title")];
  return {title: titles.length ? titles[0].textContent.trim().slice(0, 500) : "",
          headings: headings.map(each => each.textContent.trim().slice(0, 500)),
          text: (root.innerText || "").slice(0, 200000),
          outside: outside.slice(-8).map(told),
          width: Math.max(...bodies.map(each => each.scrollWidth)),
          height: Math.max(...bodies.map(each => each.scrollHeight))};
})()"""


@dataclasses.dataclass(frozen=True)
class Rendered:
    """A page as it is seen.

    Attributes:
      png: a picture of the viewport.
      title: of the document.
      headings: texts of the headings that are visible.
      text: that is visible.
      loads: what it would have a browser load or send to; see loads_of.
      outside: up to eight elements that reach out of the viewport, as "p: what it says".
      width, height: of the whole page, in CSS pixels.
    """
    png: bytes
    title: str
    headings: tuple[str, ...]
    text: str
    loads: tuple[str, ...]
    outside: tuple[str, ...]
    width: int
    height: int


class Renderer:
    """Shows each page in a browser of its own. Any thread may call it.

    Args:
      browser: path of the program; empty: it is sought.
      width, height: of the viewport, in pixels.
      seconds: that a page may take.
      scripts: whether pages may run any, and send forms, though to nobody.

    Raises:
      UserError: there is no browser, or no sandbox for it.
    """

    def __init__(self, browser: str = "", *, width: int = 1280, height: int = 800, seconds: float = 30.0,
                 scripts: bool = False):
        self._browser = browser_path(browser)
        self.width = width
        self.height = height
        self._seconds = seconds
        self._scripts = scripts

    def render(self, html: str, started: Callable[[Callable[[], None]], Any] = lambda _: None) -> Rendered:
        """Shows a page, which is a stranger's.

        Args:
          html: at most MOST_HTML bytes.
          started: is given a function that ends the browser at once, for another thread.

        Raises:
          EnvError: the browser could not show it, twice.
          ValueError: it has more bytes.
        """
        page = html.encode(errors="replace")
        if len(page) > MOST_HTML:
            raise ValueError(f"a page of {len(page)} bytes; at most {MOST_HTML} are shown")
        try:
            return self._rendered(page, started)
        except EnvError:  # a machine at its limits fails once; a page that does so twice is told of
            return self._rendered(page, started)

    def _rendered(self, page: bytes, started: Callable[[Callable[[], None]], Any]) -> Rendered:
        with self._running(started) as (browser, tools):
            try:
                return self._shown(tools, _DATA + base64.b64encode(page).decode())
            except BrowserError as error:
                browser.end()
                raise self._failed(browser, error) from error

    def _failed(self, browser: ShutIn, error: BrowserError) -> EnvError:
        """What it ended by."""
        try:
            ended = browser.wait()
        except SandboxError as refused:
            return EnvError(Status.STEP_FAILED, f"The browser did not begin. {refused}")
        if ended.cause is Cause.TIME:
            return EnvError(Status.TIMED_OUT,
                            f"The browser did not show a page within {self._seconds:g} seconds.")
        over = "" if ended.cause in (None, Cause.ASKED) else f", as it took too much: {ended.cause}"
        return EnvError(Status.STEP_FAILED, f"The browser {error}{over}.{_last_words(ended.stderr)}")

    def _shown(self, tools: DevTools, url: str) -> Rendered:
        tools.attach()
        for domain in ("Page", "Inspector"):
            tools.call(f"{domain}.enable")
        tools.call("Emulation.setDeviceMetricsOverride", width=self.width, height=self.height,
                   deviceScaleFactor=1, mobile=False)
        if not self._scripts:
            tools.call("Emulation.setScriptExecutionDisabled", value=True)
        frame = _FRAME.format(width=self.width, height=self.height, url=url,
                              allowed="allow-scripts allow-forms" if self._scripts else "")
        tools.forget("Page.loadEventFired")
        tools.call("Page.navigate", url=_DATA + base64.b64encode(frame.encode()).decode())
        tools.wait("Page.loadEventFired")
        picture = tools.call("Page.captureScreenshot", format="png")["data"]
        if len(picture) > MOST_PNG * 4 // 3:
            raise BrowserError(f"made a picture of more than {MOST_PNG} bytes")
        children = tools.call("Page.getFrameTree")["frameTree"].get("childFrames", [])
        if [child["frame"]["url"] for child in children] != [url]:
            raise BrowserError("was led elsewhere by the page")
        facts = self._facts(tools, children[0]["frame"]["id"])
        facts |= {name: tuple(facts[name]) for name in ("headings", "outside")}
        loads = loads_of(tools.call("DOMSnapshot.captureSnapshot", computedStyles=[]))
        return Rendered(base64.b64decode(picture), loads=tuple(loads), **facts)

    def _facts(self, tools: DevTools, frame: str) -> dict[str, Any]:
        world = tools.call("Page.createIsolatedWorld", frameId=frame)["executionContextId"]
        answer = tools.call("Runtime.evaluate", contextId=world, returnByValue=True, timeout=_EVALUATION_MS,
                            expression=_FACTS % (self.width, self.height))
        if "value" not in answer["result"]:
            raise BrowserError(f"could not look at the page: {cut(str(answer))}")
        return answer["result"]["value"]

    @contextlib.contextmanager
    def _running(self, started: Callable[[Callable[[], None]], Any]) -> Iterator[tuple[ShutIn, DevTools]]:
        """A browser that ends with the block, and in any case in time."""
        ours_in, theirs_out = high_pipe()
        theirs_in, ours_out = high_pipe()
        try:
            browser = shut_in(self._browser, _OPTIONS, self._seconds, theirs_in, theirs_out)
        except BaseException:
            os.close(ours_in)
            os.close(ours_out)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        try:
            started(browser.end)
            yield browser, DevTools(ours_in, ours_out)
        finally:
            browser.close()
            os.close(ours_in)
            os.close(ours_out)


def _last_words(said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines()]
    told = [line for line in lines if line and "dbus" not in line]
    return f" It said: {cut(escaped(' '.join(told[-2:])))}" if told else ""
