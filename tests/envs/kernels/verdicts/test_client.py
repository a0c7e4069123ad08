"""The client of evaluation servers: what is said of a candidate is a verdict, and what befalls the server is
none."""
import contextlib
import dataclasses
import threading

import pytest

from jaxrl_moe.envs.kernels.verdicts import client
from jaxrl_moe.envs.kernels.verdicts.client import RemoteJudge
from jaxrl_moe.envs.kernels.verdicts.judge import Trials
from jaxrl_moe.envs.kernels.verdicts.told import said
from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Verdict
from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.outgoing import calls
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.json_server import json_server
from tests.helpers.kernel_workers import RELU, RIGHT, VERDICT, WRONG, ScriptedWorker, kernel_server
from tests.helpers.waiting import wait_until

SLOW = Verdict(Basis.INTERPRETER, fault=Fault.TIMED_OUT, message="too long")


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(client, "AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(calls, "KNOCK_SECONDS", 0.02)


@contextlib.contextmanager
def remote(url, *arguments, **options):
    with contextlib.closing(RemoteJudge(url, *arguments, **{"patience": 0.5} | options)) as judge:
        yield judge


def test_a_verdict_from_a_server_is_the_one_that_it_came_to():
    wrong = dataclasses.replace(VERDICT, correct=False, fault=Fault.MISMATCH, message="off by 1")
    worker = ScriptedWorker(said={WRONG: wrong, "slow": SLOW})
    key = "a secret key"
    with kernel_server(worker, api_key=key) as (url, _), remote(f"{url}/", key) as judge:
        judge.meet()
        assert judge.verdict(RELU, RIGHT, 3) == VERDICT
        assert judge.verdict(RELU, WRONG, 3) == wrong
        assert judge.verdict(RELU, "slow", 3) == SLOW
    problem, source, seed, trials = worker.asked[0]
    assert (problem, source, seed, trials) == (RELU, RIGHT, 3, Trials(5))


def test_a_problem_is_judged_there_as_it_says_or_as_often_as_the_client_was_told():
    worker = ScriptedWorker()
    problem = Judged("p", ({"N": 3},), trials=2, torch_operators=True)
    with kernel_server(worker) as (url, _):
        with remote(url) as judge:
            judge.verdict(problem, "a", 0)
        with remote(url, trials=Trials(9)) as judge:
            judge.verdict(problem, "b", 0)
    assert [each[0] for each in worker.asked] == [problem, dataclasses.replace(problem, trials=9)]


def test_a_timing_where_there_is_no_gpu_is_the_users_to_mend():
    with kernel_server(ScriptedWorker()) as (url, _), remote(url, timed=True) as judge:
        with pytest.raises(UserError, match="needs a GPU") as caught:
            judge.verdict(RELU, RIGHT, 0)
    assert not isinstance(caught.value, EnvError)


def test_a_gpu_times_as_often_as_the_client_says():
    worker = ScriptedWorker("cuda:0")
    with kernel_server(worker) as (url, _), remote(url, trials=Trials(4, 20), timed=True) as judge:
        judge.verdict(RELU, RIGHT, 0)
    assert worker.asked[0][3] == Trials(4, 20)


@pytest.mark.parametrize("key", ["", "another key"])
def test_a_wrong_key_is_the_users_to_mend(key):
    with kernel_server(ScriptedWorker(), api_key="a secret key") as (url, _), remote(url, key) as judge:
        for call in (judge.meet, lambda: judge.verdict(RELU, RIGHT, 0)):
            with pytest.raises(UserError, match="key") as caught:
                call()
            assert not isinstance(caught.value, EnvError) and "another key" not in str(caught.value)


@pytest.mark.parametrize("status, body", [
    (503, {"error": {"message": "ending", "code": None}}), (503, {"detail": "x"}), (502, "x"), (500, {}),
    (504, "<html>504 Gateway Time-out</html>"), (504, [1])])
def test_what_befalls_a_server_is_no_verdict_and_the_episode_is_tried_again(status, body):
    with json_server(lambda path, sent, headers: (status, body)) as (url, asked), remote(url) as judge:
        with pytest.raises(EnvError) as caught:
            judge.verdict(RELU, RIGHT, 0)
        assert len(asked) == 1  # what a server did with it is not known
    assert not caught.value.final


@pytest.mark.parametrize("answer", [
    {"compiled": True}, [], "ok", said(VERDICT) | {"metadata": {}}, said(VERDICT) | {"compiled": False}])
def test_an_answer_that_is_no_verdict_is_malformed(answer):
    with json_server(lambda path, sent, headers: answer) as (url, _), remote(url) as judge:
        with pytest.raises(EnvError) as caught:
            judge.verdict(RELU, RIGHT, 0)
    assert caught.value.status == Status.MALFORMED


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415])
def test_a_call_that_is_refused_for_good_is_the_users_to_mend(status):
    refusal = {"error": {"message": "the problem's own file fails", "code": None}}
    with json_server(lambda path, sent, headers: (status, refusal)) as (url, _), remote(url) as judge:
        with pytest.raises(UserError, match="own file fails") as caught:
            judge.verdict(RELU, RIGHT, 0)
    assert not isinstance(caught.value, EnvError)


def test_another_servers_504_says_that_the_candidate_took_too_long():
    told = 504, {"detail": "timed out"}
    with json_server(lambda path, sent, headers: told) as (url, _), remote(url) as judge:
        assert judge.verdict(RELU, RIGHT, 0) == dataclasses.replace(SLOW, message="timed out")


def test_a_server_without_room_is_asked_again_until_the_time_is_over():
    left = [3]

    def answer(path, sent, headers):
        left[0] -= 1
        return said(VERDICT) if left[0] < 0 else (429, {"error": {"message": "full"}})
    with json_server(answer) as (url, asked):
        with remote(url, seconds=20) as judge:
            assert judge.verdict(RELU, RIGHT, 0) == VERDICT
        assert len(asked) == 4
        left[0] = 10**6
        with remote(url, seconds=0.2) as judge, pytest.raises(EnvError, match="429"):
            judge.verdict(RELU, RIGHT, 0)


def test_a_server_that_cannot_be_reached_is_waited_for():
    port = free_port()
    with remote(f"http://127.0.0.1:{port}", patience=0.1) as judge:
        with pytest.raises(EnvError) as caught:
            judge.verdict(RELU, RIGHT, 0)
        assert caught.value.status == Status.UNREACHABLE
        with pytest.raises(UserError, match="not ready"):
            judge.meet()
    with remote(f"http://127.0.0.1:{port}", patience=30) as judge:
        got = []
        thread = threading.Thread(target=lambda: got.append(judge.verdict(RELU, RIGHT, 0)))
        thread.start()
        with kernel_server(ScriptedWorker(), port=port):
            thread.join(30)
    assert got == [VERDICT]


def test_a_client_that_is_closed_gives_up_what_waits():
    worker = ScriptedWorker()
    worker.door.clear()
    caught = []

    def asks(judge):
        with pytest.raises(EnvError) as error:
            judge.verdict(RELU, RIGHT, 0)
        caught.append(error.value.status)
    with kernel_server(worker) as (url, _):
        with remote(url) as judge:
            thread = threading.Thread(target=asks, args=(judge,))
            thread.start()
            wait_until(lambda: worker.asked)
        thread.join(20)
        worker.door.set()
    assert caught == [Status.UNREACHABLE]


def test_a_server_of_another_kind_is_told_apart_before_anything_is_asked():
    with json_server(lambda path, sent, headers: {"status": "ok"}) as (url, _), remote(url) as judge:
        with pytest.raises(UserError, match="no evaluation server"):
            judge.meet()
    with pytest.raises(UserError, match="http://host:port"):
        RemoteJudge("ftp://x")
