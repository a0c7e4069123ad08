"""A browser, and the page over a queue in memory."""
import contextlib

import pytest

from jaxrl_moe.serving.judges.page.app import JudgePage, make_page
from jaxrl_moe.serving.judges.page.sessions import PageSessions
from jaxrl_moe.serving.server import HttpServer
from tests.helpers import judges_page
from tests.helpers.chromium import PROGRAM, chromium
from tests.helpers.fake_queue import TOKENS, FakeQueue
from tests.helpers.judges_page import Judging, served


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if PROGRAM is None:
        pytest.skip("there is no Chromium on this machine")
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(browser):
    """The browser without what other tests left in it."""
    browser.call("Network.clearBrowserCookies")
    browser.resize(1280, 800)
    browser.open("about:blank")
    browser.complaints.clear()
    return browser


@pytest.fixture
def judging(tab, tmp_path):
    """Serves the page over a queue; `judging(queue, port)` is a server to be used in a `with`."""
    @contextlib.contextmanager
    def serve(queue, port=0, lease=60.0):
        page = JudgePage(queue, PageSessions(tmp_path / "sessions"), lease)
        with HttpServer(page, make_page, port=port, grace=1, logins=True) as server:
            yield server.url
    return serve


@pytest.fixture
def come_in(tab):
    """Logs a judge in by the form."""
    def come(url, judge="ada"):
        judges_page.come_in(tab, url, TOKENS[judge])
    return come


@pytest.fixture
def queue():
    return FakeQueue()


@pytest.fixture
def url(queue, tmp_path):
    with served(queue, tmp_path / "sessions") as url:
        yield url


@pytest.fixture
def ada(url):
    return Judging(url, "ada")
