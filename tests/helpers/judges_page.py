"""The judges' page as somebody uses it, in a browser or as one asks it."""
import contextlib

import httpx2

from jaxrl_moe.serving.judges.page.app import JudgePage, make_page
from jaxrl_moe.serving.judges.page.sessions import PageSessions
from jaxrl_moe.serving.server import HttpServer
from tests.helpers.fake_queue import TOKENS


def come_in(tab, url, token):
    """Logs in by the form."""
    tab.open(url)
    tab.wait("document.querySelector('#token')")
    tab.type("#token", token)
    tab.press("Enter")
    tab.wait("document.querySelector('#queue')")


def send(tab):
    """Submits, and waits until it is kept and the next is there."""
    tab.evaluate("document.querySelector('.form').dataset.old = 'yes'")
    tab.press("Enter")
    tab.wait("!document.querySelector('[data-old]')")


class Judging:
    """A client of the page, as a browser is one."""

    def __init__(self, url, judge=""):
        self.http = httpx2.Client(base_url=url, timeout=60)
        self.origin = {"Origin": url}
        self.csrf = {}
        if judge:
            answer = self.post("login", {"token": TOKENS[judge]})
            assert answer.status_code == 200, answer.text
            self.csrf = {"X-CSRF-Token": answer.json()["csrf"]}

    def post(self, name, body, **headers):
        return self.http.post(f"/api/{name}", json=body, headers=self.origin | self.csrf | headers)

    def get(self, path):
        return self.http.get(path)

    def lease(self):
        return self.post("lease", {}).json()["lease"]


@contextlib.contextmanager
def served(queue, file, **options):
    page = JudgePage(queue, PageSessions(file), 60.0)
    with HttpServer(page, make_page, grace=1, logins=True, **options) as server:
        yield server.url
