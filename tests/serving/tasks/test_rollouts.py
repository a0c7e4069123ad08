"""Each rollout is played once, in its turn, and no longer than somebody waits for it."""
import concurrent.futures
import contextlib
import threading
import time

import httpx
import pytest

from jaxrl_moe.serving.tasks import rollouts as module
from tests.helpers.task_apps import KEY, good_text, policy, request, task_app
from tests.helpers.waiting import wait_until


class Held:
    """A policy's answer that waits until it may go on."""

    def __init__(self):
        self.go = threading.Event()
        self.waiting = 0

    def __call__(self, body):
        self.waiting += 1
        self.go.wait(30)
        return good_text()


@pytest.fixture
def held():
    answer = Held()
    yield answer
    answer.go.set()


def asked_again(http, body, pool):
    return pool.submit(httpx.post, http.base_url.join("/rollout"), json=body, headers={"X-API-Key": KEY},
                       timeout=60)


def test_a_run_id_is_played_once_however_often_it_is_asked_for(held):
    with task_app() as (http, service), policy(held) as (url, asked), \
            concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [asked_again(http, request(url), pool) for _ in range(5)]
        wait_until(lambda: held.waiting == 1 and service.rollouts.held == 1)
        time.sleep(0.2)  # the others join
        held.go.set()
        answers = [call.result().content for call in calls]
        later = http.post("/rollout", json=request(url)).content
        assert len(asked) == 1 and {later, *answers} == {later}
        assert service.rollouts.ended == {"answered": 1}
        other = http.post("/rollout", json=request(url, seed=1))
        assert other.status_code == 409 and "run_id = 'r'" in other.json()["error"]["message"]
        assert http.post("/rollout", json=request(url, "r2")).status_code == 200 and len(asked) == 2


def test_another_request_under_a_run_id_that_is_at_work_is_refused(held):
    with task_app() as (http, _), policy(held) as (url, asked), \
            concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = asked_again(http, request(url), pool)
        wait_until(lambda: held.waiting == 1)
        with_key = request(url)
        with_key["policy"]["config"]["api_key"] = "k"
        for other in (request(url, seed=1), request(url, record={"return_trace": True}), with_key):
            assert http.post("/rollout", json=other).status_code == 409
        held.go.set()
        assert first.result().status_code == 200 and len(asked) == 1


def test_a_rollout_that_failed_is_played_anew():
    answers = iter([(500, {"x": 1}), good_text()])
    with task_app() as (http, _), policy(lambda _: next(answers)) as (url, asked):
        assert http.post("/rollout", json=request(url)).status_code == 502
        assert http.post("/rollout", json=request(url)).status_code == 200 and len(asked) == 2


def test_a_rollout_whose_callers_have_all_gone_is_stopped_and_played_anew(held):
    with task_app(rollouts=1) as (http, service), policy(held) as (url, asked):
        def leave(seconds):
            with pytest.raises(httpx.TimeoutException):
                httpx.post(http.base_url.join("/rollout"), json=request(url), headers={"X-API-Key": KEY},
                           timeout=seconds)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            longer = pool.submit(leave, 3)
            wait_until(lambda: held.waiting == 1)
            leave(0.3)
            assert service.rollouts.held == 1 and not service.rollouts.ended  # the first still waits
            longer.result()
        wait_until(lambda: service.rollouts.ended == {"stopped": 1})
        assert service.rollouts.held == 0 and not held.go.is_set()
        held.go.set()
        assert http.post("/rollout", json=request(url)).status_code == 200 and len(asked) == 2


def test_more_than_can_wait_are_refused(held):
    with task_app(rollouts=1) as (http, service), policy(held) as (url, asked), \
            concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [asked_again(http, request(url, f"r{number}"), pool) for number in range(5)]
        wait_until(lambda: service.rollouts.held == 5 and held.waiting == 1)
        refused = http.post("/rollout", json=request(url, "one more"))
        assert refused.status_code == 429 and "--rollouts" in refused.json()["error"]["message"]
        assert int(refused.headers["Retry-After"]) > 0 and held.waiting == 1
        held.go.set()
        assert [call.result().status_code for call in calls] == [200] * 5
        assert service.rollouts.held == 0 and len(asked) == 5


def test_answers_are_kept_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 2)
    with task_app() as (http, service), policy(good_text()) as (url, asked):
        for run_id in ("a", "b", "a", "c", "a", "b"):  # c pushes b out, which was used longest ago
            assert http.post("/rollout", json=request(url, run_id)).status_code == 200
        assert len(asked) == 4
    monkeypatch.setattr(module, "KEPT_BYTES", 1)
    with task_app() as (http, service), policy(good_text()) as (url, asked):
        for run_id in ("a", "a", "b", "a"):
            assert http.post("/rollout", json=request(url, run_id)).status_code == 200
        assert len(asked) == 3


def test_the_servers_end_stops_what_is_at_work(held):
    with policy(held) as (url, _), concurrent.futures.ThreadPoolExecutor(1) as pool:
        with task_app() as (http, service):
            call = asked_again(http, request(url), pool)
            wait_until(lambda: held.waiting == 1)
        assert not held.go.is_set() and service.rollouts.ended.total() <= 1
        with contextlib.suppress(httpx.TransportError):  # whatever the server's end made of its call
            assert call.result().status_code >= 400
