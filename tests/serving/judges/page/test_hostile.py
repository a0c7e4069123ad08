"""What a model wrote against its judge is shown and does nothing: no request leaves, and neither the session
nor an answer changes."""
import contextlib
import json
import socket
import threading
import time

import pytest

from jaxrl_moe.judges.records import Part, Work
from jaxrl_moe.judges.rubric import Criterion, Rubric
from jaxrl_moe.serving.judges.page import made
from tests.helpers.fake_queue import FakeQueue
from tests.helpers.hostile_pages import hostile_pages
from tests.helpers.waiting import wait_until

RUNNING = "document.querySelectorAll('main :is(script, object, embed, form, base, link, style)').length"
BOXES = """[...document.querySelectorAll('iframe')].map(each => {
  each.scrollIntoView({block: 'center'});
  const box = each.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})[%d]"""


def windows(tab):
    targets = tab.call("Target.getTargets")["targetInfos"]
    return sorted(each["targetId"] for each in targets if each["type"] == "page")


class Trap:
    """A server that notes whatever connects to it."""

    def __init__(self):
        self.caught = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._note, args=(client,), daemon=True).start()

    def _note(self, client):
        self.caught.append(client)
        with client, contextlib.suppress(OSError):
            client.settimeout(1)
            self.caught[-1] = client.recv(300).decode("latin-1")
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nAccess-Control-Allow-Origin: *\r\n"
                           b"Connection: close\r\n\r\n")

    def close(self):
        self._listener.close()


def wait_for_answer(queue, item):
    wait_until(lambda: queue.answers[item])


@pytest.fixture
def trap():
    trap = Trap()
    yield trap
    trap.close()


def test_the_trap_catches_what_a_frame_lets_out(tab, trap, judging, come_in, monkeypatch):
    """Otherwise the tests below could not fail."""
    monkeypatch.setattr(made, "_FRAME", "default-src * 'unsafe-inline'")
    html = f"<img src='{trap.url}/i'><link rel=stylesheet href='{trap.url}/s'>"
    queue = FakeQueue()
    queue.put(Work("task", (html,), (Part("html", html),)))
    with judging(queue) as url:
        come_in(url)
        wait_until(lambda: any("GET /i " in str(each) for each in trap.caught), 20)


@pytest.mark.parametrize("at_once", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_nothing_that_a_model_wrote_reaches_the_judges_session(tab, trap, judging, come_in, at_once):
    queue = FakeQueue()
    with judging(queue) as url:
        pages = list(hostile_pages(trap.url, url).items())
        assert len(pages) >= 20
        groups = [pages[start:start + at_once] for start in range(0, len(pages), at_once)]
        items = []
        for group in groups:
            works = [Work(html, (html,), (Part("html", html), Part("text", html))) for _, html in group]
            first = group[0][1]
            rubric = Rubric(first, (Criterion(first, 1.0, "bounded", first),))
            items.append(queue.put(*works, mode="ranking", run=first[:1000], rubric=rubric))
        come_in(url)
        cookies = tab.call("Network.getCookies", urls=[url])["cookies"]
        before = windows(tab)
        for group, item in zip(groups, items, strict=True):
            names = [name for name, _ in group]
            tab.wait(f"document.querySelectorAll('iframe').length === {len(group)} && "
                     "!document.querySelector('.submit').disabled")
            time.sleep(0.7)  # for what would leave by itself
            for number in range(len(group)):
                tab.point(*tab.evaluate(BOXES % number))
            time.sleep(0.7)  # for what a click would have sent
            assert trap.caught == [], names
            assert tab.evaluate("location.href") == f"{url}/" and "Judging" in tab.evaluate("document.title")
            assert tab.evaluate("document.activeElement.tagName") != "IFRAME", names
            assert tab.call("Network.getCookies", urls=[url])["cookies"] == cookies, names
            assert tab.evaluate("fetch('/api/session').then(answer => answer.status)") == 200, names
            assert not queue.answers[item], names
            assert tab.evaluate(RUNNING) == 0
            assert tab.evaluate("window.length") == len(group)
            tab.evaluate("document.querySelectorAll('.place').forEach(each => each.click())")
            tab.press("Enter")
            wait_for_answer(queue, item)
            assert queue.answers[item]["ada"].order == tuple((place,) for place in range(len(group))), names
        tab.press("v")
        tab.wait("document.querySelector('.kappas')")
        assert trap.caught == []
        assert windows(tab) == before
    assert not [each for each in tab.complaints if "dialog" in each]


def test_a_frame_that_is_opened_by_itself_can_do_no_more(tab, trap, judging, come_in):
    queue = FakeQueue()
    with judging(queue) as url:
        pages = hostile_pages(trap.url, url)
        names = ("script", "handlers", "beacons in styles", "prefetch", "form")
        html = "".join(pages[name] for name in names)
        queue.put(Work("task", (html,), (Part("html", html),)))
        come_in(url)
        tab.wait("document.querySelector('iframe')")
        tab.open(tab.evaluate("document.querySelector('iframe').src"))
        time.sleep(0.7)
        tab.point(300, 300)
        time.sleep(0.5)
        assert trap.caught == []
        assert tab.evaluate("origin") == "null" and tab.evaluate("location.pathname.startsWith('/frame/')")
        cookies = tab.call("Network.getCookies", urls=[url])["cookies"]
        assert [json.dumps(each["httpOnly"]) for each in cookies] == ["true"]
