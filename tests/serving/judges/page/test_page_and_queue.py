"""What judges are let do and see over HTTP, on the queue in a database."""
import contextlib

import httpx2
import pytest

from jaxrl_moe.judges.queue.sql import SqlQueue
from jaxrl_moe.judges.records import Ask, Work
from jaxrl_moe.serving.judges.page import app, attempts, launch
from jaxrl_moe.serving.judges.page.launch import PageOptions
from tests.helpers.fake_queue import RUBRIC

SCORES = {"layout": 0.6, "valid": 1, "taste": 0.2}
PUBLIC = "https://judges.example.org"
LOOKS = ("session", "progress", "plots")
CHANGES = ("lease", "renew", "answer", "skip", "postpone", "give_back", "logout")


@pytest.fixture
def queue(tmp_path):
    queue = SqlQueue(f"sqlite:///{tmp_path}/queue.db", gold_share=0.5)
    yield queue
    queue.close()


@pytest.fixture
def served(queue, tmp_path):
    """Serves the page over the queue, as the command does."""
    @contextlib.contextmanager
    def serve(public_url=""):
        own = SqlQueue(f"sqlite:///{tmp_path}/queue.db", gold_share=0.5)
        with launch.make_server(own, tmp_path / "sessions", PageOptions("", port=0), public_url) as server:
            yield server.url
    return serve


class PageClient:
    """A judge's browser."""

    def __init__(self, url, token, origin="", **headers):
        self.http = httpx2.Client(base_url=url, timeout=60, headers={"Origin": origin or url} | headers)
        self.entered = self.post("login", {"token": token})
        if self.entered.status_code == 200:
            self.http.headers["X-CSRF-Token"] = self.entered.json()["csrf"]

    def post(self, name, body):
        return self.http.post(f"/api/{name}", json=body)

    def get(self, name):
        return self.http.get(f"/api/{name}")

    def lease(self):
        return self.post("lease", {}).json()["lease"]["token"]


def put(queue, number):
    return queue.put(Work("Build a page.", (f"page {number}",)), Ask(RUBRIC, run="run"))


def test_a_removed_judge_is_out_at_once_and_added_anew_does_not_bring_the_session_back(queue, served):
    item = put(queue, 1)
    with served() as url:
        token = queue.add_judge("ada")
        ada = PageClient(url, token)
        frame = f"/frame/{ada.lease()}/0/0"
        body = {"token": frame.split("/")[2], "scores": [SCORES]}
        assert ada.get("progress").status_code == 200 and ada.http.get(frame).status_code == 404

        def check_out():
            assert {ada.get(name).status_code for name in LOOKS} == {401}
            assert ada.http.get(frame).status_code == 401
            for name in CHANGES:
                sent = {"lease": {}, "logout": {}, "answer": body}.get(name, {"token": body["token"]})
                assert ada.post(name, sent).status_code == 401
        queue.remove_judge("ada")
        check_out()
        assert PageClient(url, token).entered.status_code == 401
        token = queue.add_judge("ada")
        check_out()
        again = PageClient(url, token)
        assert again.get("session").json()["judge"] == "ada" and again.lease()
    assert queue.state(item).verdict is None


def test_what_the_page_tells_is_the_same_of_a_gold_item_and_of_others(queue, served, monkeypatch):
    golds = {queue.add_gold(Work("Build a page.", (f"gold {number}",)), Ask(RUBRIC), SCORES)
             for number in range(4)}
    for number in range(8):
        put(queue, number)

    def told(judge):
        progress = judge.get("progress").json()
        plots = judge.get("plots").json()
        numbers = [progress.pop(name) for name in ("waiting", "leased", "postponed", "done", "answered")]
        return [*numbers, len(plots["recent"])], progress, plots["agreement"]

    with served() as url:
        ada = PageClient(url, queue.add_judge("ada"))
        found = {True: set(), False: set()}
        rest = []
        for _ in range(6):
            before, *others = told(ada)
            token = ada.lease()
            held, *more = told(ada)
            is_gold = queue.renew("ada", token, 60.0).item in golds
            assert ada.post("answer", {"token": token, "scores": [SCORES]}).status_code == 200
            after, *most = told(ada)
            rest += [others, more, most]
            found[is_gold].add((tuple(b - a for a, b in zip(before, held)),
                                tuple(b - a for a, b in zip(held, after))))
        assert found[True] == found[False] == {((-1, 1, 0, 0, 0, 0), (0, -1, 0, 1, 1, 1))}
        assert all(each == rest[0] for each in rest) and rest[0][0]["runs"] == [{"name": "run", "items": 8}]
        monkeypatch.setattr(app, "_STALE", 0.0)
        [progress, agreement] = told(ada)[1:]
        assert progress["runs"] == [{"name": "run", "items": 5}]
        assert agreement["gold"] == {"right": 3, "asked": 3}


@pytest.mark.parametrize("public_url, refused", [("", 2), (PUBLIC, 0)])
def test_whom_a_request_is_passed_on_for_is_read_only_behind_another_server(queue, served, public_url,
                                                                            refused):
    token = queue.add_judge("ada")
    with served(public_url) as url:
        def come(token, address):
            origin = public_url or url
            headers = {"Host": origin.split("//")[1], "X-Forwarded-For": address}
            return PageClient(url, token, origin, **headers).entered.status_code
        others = [come("wrong", f"10.0.0.{number}") for number in range(attempts.MOST + 2)]
        assert others.count(429) == refused
        assert [come("wrong", "10.1.1.1") for _ in range(11)][-1] == 429
        assert come(token, "10.1.1.1") == 200  # nobody locks others out
