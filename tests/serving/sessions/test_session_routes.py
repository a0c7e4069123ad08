"""The routes of sessions: who may call what, and what is said to calls that cannot be met."""
import asyncio
import threading
import time
import types

import httpx2
import pytest

from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.rollout.agents.sessions import AgentSessions
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.serving.launch import beside_training
from jaxrl_moe.serving.sessions import routes
from jaxrl_moe.types import EnvError, SamplingParams, Step
from tests.helpers import templates
from tests.helpers.scripted_texts import Scripted
from tests.helpers.serving import serving
from tests.helpers.session_plans import plan
from tests.helpers.templates import byte_level

KEY = "a-key-of-the-run"
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi."}]}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(byte_level(templates.QWEN25, "<|im_end|>"), "qwen25")


@pytest.fixture
def sessions():
    return AgentSessions()


@pytest.fixture
def server(tokenizer, sessions):
    with (EngineFront(Scripted(tokenizer, "so it is")) as front,
          serving(front, tokenizer, sessions=sessions, api_key=KEY) as server):
        yield server


def opened(server, sessions, **changes):
    sessions.offer(sessions.open(plan(**changes)))
    answer = server.http.post("/sessions", json={"wait": 5})
    assert answer.status_code == 200, answer.text
    return answer.json()


def call(server, session, path="chat/completions", **fields):
    """Without the run's key."""
    body = (CHAT if path.startswith("chat") else {"model": "tiny", "prompt": "x"}) | fields
    return httpx2.post(f"{server.url}/sessions/{session}/v1/{path}", json=body)


def finish(server, session, **body):
    return server.http.post(f"/sessions/{session}/finish", json=body or {"reward": 1.0})


def test_a_session_says_what_its_agent_needs(server, sessions):
    told = opened(server, sessions)
    assert told["row"] == {"question": "2 + 2?"} and told["model"] == "tiny"
    assert told["base_url"] == f"{server.url}/sessions/{told['id']}/v1" and len(told["id"]) == 32
    assert (told["max_calls"], told["max_tokens"], told["max_sequence_tokens"]) == (8, 200, 4000)
    models = httpx2.get(f"{told['base_url']}/models").json()
    assert [model["id"] for model in models["data"]] == ["tiny"]


def test_the_id_is_the_key_of_its_calls_and_the_runs_key_that_of_all_else(server, sessions):
    told = opened(server, sessions)
    assert call(server, told["id"]).status_code == 200
    assert call(server, "0" * 32).status_code == 404
    for path in ("/sessions", f"/sessions/{told['id']}/finish", "/v1/models", f"/sessions/{told['id']}",
                 f"/sessions/{told['id'][:-1]}/v1/models", f"/sessions/{told['id']}/v1/"):
        assert httpx2.post(f"{server.url}{path}", json={}).status_code == 401, path


def test_what_an_agent_says_of_an_episode_is_its_outcome_once(server, sessions):
    told = opened(server, sessions)
    call(server, told["id"])
    with sessions.using(told["id"]) as session:
        pass
    assert finish(server, told["id"], reward=0.5, info={"correct": 1}).status_code == 200
    assert session.outcome == Step(0.5, True, {"correct": 1.0})
    again = finish(server, told["id"])
    assert again.status_code == 410 and again.json()["error"]["code"] == "session_ended"
    assert call(server, told["id"]).status_code == 410
    sessions.end(session, "the run has its outcome")
    late = call(server, told["id"])
    assert late.status_code == 410 and "the run has its outcome" in late.json()["error"]["message"]
    assert sessions.held == 0


def test_an_episode_that_failed_or_made_no_call_is_worth_nothing(server, sessions):
    first = opened(server, sessions)["id"]
    second = opened(server, sessions)["id"]
    kept = []
    for number in (first, second):
        with sessions.using(number) as session:
            kept.append(session)
    finish(server, first, error="the browser is gone")
    finish(server, second, reward=1.0)
    assert all(isinstance(session.outcome, EnvError) for session in kept)
    assert "the browser is gone" in str(kept[0].outcome) and "without a call" in str(kept[1].outcome)


@pytest.mark.parametrize("body, message", [
    ({}, "give a reward, or an error"), ({"reward": 1.0, "error": "x"}, "one of them"),
    ({"reward": "1"}, "reward"), ({"reward": 1e39}, "reward"), ({"reward": None}, "give a reward"),
    ({"error": "x", "info": {"a": 1.0}}, "info goes with a reward"), ({"error": ""}, "error"),
    ({"reward": 1.0, "info": {"a b": 1.0}}, "info"), ({"reward": 1.0, "info": {"a": "b"}}, "info"),
    ({"reward": 1.0, "rewards": 2}, "rewards")])
def test_an_outcome_that_is_none_is_refused_and_the_session_stays_open(server, sessions, body, message):
    told = opened(server, sessions)
    answer = server.http.post(f"/sessions/{told['id']}/finish", json=body)
    assert answer.status_code == 400 and message in answer.json()["error"]["message"], answer.text
    assert call(server, told["id"]).status_code == 200


@pytest.mark.parametrize("body", [b'{"reward": NaN}', b'{"reward": Infinity}', b"\xff\xfe", b"[1]", b""])
def test_an_outcome_that_is_no_json_is_refused(server, sessions, body):
    told = opened(server, sessions)
    answer = server.http.post(f"/sessions/{told['id']}/finish", content=body,
                              headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("path, fields, param", [
    ("chat/completions", {"n": 2}, "n"), ("chat/completions", {"seed": 1}, "seed"),
    ("chat/completions", {"temperature": 0.5}, "temperature"), ("completions", {"top_p": 0.5}, "top_p"),
    ("completions", {"top_k": 3}, "top_k"), ("completions", {"min_p": 0.1}, "min_p"),
    ("completions", {"prompt": ["a", "b"]}, "prompt")])
def test_what_would_be_trained_otherwise_than_drawn_is_refused_by_name(server, sessions, path, fields, param):
    told = opened(server, sessions)
    answer = call(server, told["id"], path, **fields)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text


@pytest.mark.parametrize("fields, changes, code", [
    ({"max_tokens": 201}, {}, "session_limit"), ({}, {"longest": 5}, "context_length_exceeded"),
    ({"model": "other"}, {}, "model_not_found")])
def test_a_call_beyond_a_limit_is_refused_and_frees_its_room(server, sessions, fields, changes, code):
    told = opened(server, sessions, **changes)
    answer = call(server, told["id"], **fields)
    assert answer.json()["error"]["code"] == code and server.service.in_flight == 0, answer.text
    with sessions.using(told["id"]) as session:
        assert session.idle > 0 and not session.calls


def test_after_the_last_call_of_an_episode_it_can_only_be_finished(server, sessions):
    told = opened(server, sessions, rounds=2)
    assert [call(server, told["id"]).status_code for _ in range(3)] == [200, 200, 400]
    with sessions.using(told["id"]) as session:
        assert session.truncated and len(session.calls) == 2
    assert finish(server, told["id"]).status_code == 200


def test_a_turn_that_the_limit_cuts_makes_an_episode_truncated(tokenizer, sessions):
    with (EngineFront(Cut(tokenizer, "so it is")) as front,
          serving(front, tokenizer, sessions=sessions, api_key=KEY) as server):
        told = opened(server, sessions, params=SamplingParams(max_tokens=3))
        call(server, told["id"])
        with sessions.using(told["id"]) as session:
            assert session.truncated


class Cut(Scripted):
    """Ends everything at its first three tokens."""

    def __init__(self, tokenizer, text):
        super().__init__(tokenizer, text)
        self.ids = self.ids[:3]
        self.reason = "length"


def test_who_asks_while_no_episode_waits_is_told_to_ask_again(server, sessions):
    answer = server.http.post("/sessions", json={"wait": 0})
    assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"
    assert server.http.post("/sessions", json={"wait": -1}).status_code == 400
    sessions.close()
    assert server.http.post("/sessions", json={"wait": 60}).status_code == 410


def test_agents_that_wait_each_get_a_session_of_their_own(server, sessions):
    got = []

    def ask():
        got.append(server.http.post("/sessions", json={"wait": 30}).json()["id"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    for _ in threads:
        sessions.offer(sessions.open(plan()))
    for thread in threads:
        thread.join()
    assert len(set(got)) == 8 and sessions.waiting == 0


def test_calls_at_once_in_one_session_are_all_recorded(server, sessions):
    told = opened(server, sessions)
    threads = [threading.Thread(target=call, args=(server, told["id"])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sessions.using(told["id"]) as session:
        assert len(session.calls) == 6 and session.idle > 0
    assert server.service.in_flight == 0


def test_agents_that_wait_for_a_run_that_breaks_are_told_that_it_is_over(tokenizer, sessions, tmp_path):
    section = types.SimpleNamespace
    config = section(run_dir=str(tmp_path), rollout=section(max_tokens=8), episodes=section(history="append"),
                     endpoint=section(api_key_env="", queue=4, host="127.0.0.1", port=0, public_url=""))
    told = []

    def ask():
        told.append(httpx2.post(f"{sessions.url}/sessions", json={"wait": 60}, timeout=90))

    asking = threading.Thread(target=ask)
    with (pytest.raises(ZeroDivisionError),
          beside_training(config, Scripted(tokenizer, "so"), tokenizer, sessions)):
        asking.start()
        time.sleep(0.5)
        raise ZeroDivisionError
    asking.join()
    assert told[0].status_code == 410


def test_an_agent_that_goes_while_it_is_given_a_session_leaves_it_to_the_next(server, sessions, monkeypatch):
    async def late(work, request):
        await asyncio.sleep(0.5)
        return await work

    monkeypatch.setattr(routes, "unless_gone", late)
    sessions.offer(sessions.open(plan()))
    with pytest.raises(httpx2.TimeoutException):
        server.http.post("/sessions", json={}, timeout=0.2)
    time.sleep(1)
    assert sessions.waiting == 1
