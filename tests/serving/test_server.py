"""Who may come in, how many, what becomes of those who leave; tool calls; the end."""
import concurrent.futures
import contextlib
import importlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sys
import threading
import types

import httpx2
import openai
import pytest

import bridges
import jaxrl_moe.serving
from jaxrl_moe.config import Config, EndpointSection
from jaxrl_moe.hosts import keys
from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.serving import launch
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.serving.openai.app import make_app
from jaxrl_moe.serving.openai.models import Models
from jaxrl_moe.serving.openai.recorder import Recorder
from jaxrl_moe.serving.openai.service import Service
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.types import UserError
from tests.helpers.scripted_texts import Scripted
from tests.helpers.serving import adapter, serving
from tests.helpers.waiting import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
IDS = [5, 17, 100, 42, 250, 33]
BODY = {"model": "tiny", "prompt": IDS, "max_tokens": 100, "seed": 1}
KEY = "s3cret-0123456789"
TOOL = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}}}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rom"}}\n</tool_call>'


def test_who_waits_when_the_training_ends_is_answered(tokenizer, tmp_path):
    port = free_port()
    config = Config(run_dir=str(tmp_path), endpoint=EndpointSection(serve=True, port=port))
    body = BODY | {"model": "policy"}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with launch.beside_training(config, Scripted(tokenizer, "at last"), tokenizer) as front:
            waiting = pool.submit(httpx2.post, f"http://127.0.0.1:{port}/v1/completions", json=body,
                                  timeout=60)
            wait_until(lambda: front._tickets)  # it waits, since nothing was published
        answer = waiting.result()
    assert answer.status_code == 200 and answer.json()["choices"][0]["text"] == "at last"


@contextlib.contextmanager
def scripted(tokenizer, text, failing=None):
    with EngineFront(Scripted(tokenizer, text, failing)) as front, serving(front, tokenizer) as server:
        yield server


def pages(front):
    return front.ask(lambda engine: engine.stats()["kv_pages_used"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_disconnects_frees_its_slots_and_is_recorded(front, tokenizer, slow, tmp_path, stream):
    with serving(front, tokenizer, recorder=Recorder(tmp_path / "calls.jsonl")) as server:
        body = json.dumps(BODY | {"n": 6, "stream": stream}).encode()
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as client:
            client.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n"
                % len(body) + body)
            wait_until(lambda: pages(front) > 0)
            if stream:
                received = b""
                while b"data: {" not in received:
                    received += client.recv(4096)
            assert server.service.in_flight == 6
        wait_until(lambda: server.service.in_flight == 0)
        wait_until(lambda: pages(front) == 0)
        assert server.service.counters.calls["/v1/completions", "cancelled"] == 1
        assert server.http.post("/v1/completions", json=BODY | {"max_tokens": 2}).status_code == 200
    row = json.loads((tmp_path / "calls.jsonl").read_text().splitlines()[0])
    assert {completion["finish_reason"]
            for completion in row["completions"]} == {"cancelled"} and len(row["completions"]) == 6


def test_beyond_the_queue_requests_are_refused_with_429_until_there_is_room(front, tokenizer):
    with serving(front, tokenizer, queue=2) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        front.release()
        waiting = pool.submit(server.http.post, "/v1/completions", json=BODY | {"n": 5, "max_tokens": 3})
        wait_until(lambda: server.service.in_flight == 5)
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError) as refused:
                server.openai.completions.create(**BODY, n=2, stream=stream)
            assert 1 <= int(refused.value.response.headers["Retry-After"]
                            ) <= 60 and refused.value.body["type"] == "rate_limit_error"
        last = pool.submit(lambda: server.http.post("/v1/completions", json=BODY | {"max_tokens": 3}))
        front.resume()
        assert waiting.result(60).status_code == last.result(60).status_code == 200
        assert server.service.counters.refused == 2 and server.service.in_flight == 0
        with pytest.raises(openai.BadRequestError, match="at most 6 at once"):
            server.openai.completions.create(**BODY, n=7)


def test_without_the_key_nothing_but_health_is_answered_and_the_key_shows_nowhere(
        front, tokenizer, caplog, capfd):
    with serving(front, tokenizer, api_key=KEY) as server:
        assert server.openai.completions.create(**BODY | {"max_tokens": 2}).choices
        texts = [
            server.http.get(path).text for path in ("/health", "/metrics", "/openapi.json", "/v1/models")
        ]
        for header in ({}, {
                "Authorization": f"Bearer {KEY}x"
        }, {
                "Authorization": KEY
        }, {
                "Authorization": "Bearer"
        }, {
                "Authorization": b"Bearer \xff\xfe"
        }):
            with httpx2.Client(base_url=server.url, headers=header) as stranger:
                assert stranger.get("/health").status_code == 200
                for path in ("/v1/models", "/metrics", "/openapi.json", "/nowhere"):
                    answer = stranger.get(path)
                    assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
                texts.append(stranger.post("/v1/completions", content=b"{").text)
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0).models.list()
    output = capfd.readouterr()
    assert KEY not in "".join((*texts, caplog.text, output.out, output.err))


def test_a_server_that_others_can_reach_needs_a_key_and_a_free_port(front, tokenizer):
    with serving(front, tokenizer) as server:
        with pytest.raises(UserError, match="'0.0.0.0'.*no API key"):
            HttpServer(server.service, make_app, host="0.0.0.0")
        with pytest.raises(UserError, match="Choose another"):
            HttpServer(server.service, make_app, port=int(server.url.rsplit(":", 1)[1]))
        assert server.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("text, content, calls",
                         [(f"Let me see.\n{CALL}\n{CALL}", "Let me see.", 2),
                          (CALL, None, 1),
                          ("No <tool_call> here", "No <tool_call> here", 0),
                          ("Fine.", "Fine.", 0)])
def test_tool_calls_reach_the_client_as_such_streamed_or_not(tokenizer, text, content, calls):
    chat = dict(model="tiny", messages=[{"role": "user", "content": "How is the weather?"}], tools=[TOOL])
    with scripted(tokenizer, text) as server:
        choice = server.openai.chat.completions.create(**chat).choices[0]
        events = [event.choices[0] for event in server.openai.chat.completions.create(**chat, stream=True)]
        plain = server.openai.chat.completions.create(**chat, tool_choice="none").choices[0]
    assert choice.message.content == content and choice.finish_reason == ("tool_calls" if calls else "stop")
    assert [(call.type, call.function.name, json.loads(call.function.arguments))
            for call in choice.message.tool_calls or ()] == [("function", "weather", {
                "city": "Rom"
            })] * calls
    assert "".join(event.delta.content or "" for event in events) == (content or "")
    streamed = [call for event in events for call in event.delta.tool_calls or ()]
    assert [call.index
            for call in streamed] == list(range(calls)) and events[-1].finish_reason == choice.finish_reason
    assert [call.function for call in streamed
            ] == [type(call.function)(name="weather", arguments='{"city": '
                                      '"Rom"}') for call in streamed]
    assert plain.message.content == text and plain.finish_reason == "stop" and not plain.message.tool_calls


def test_an_answer_with_tool_calls_can_be_sent_back_as_it_is(tokenizer):
    messages = [{"role": "user", "content": "How is the weather?"}]
    with scripted(tokenizer, CALL) as server:
        message = server.openai.chat.completions.create(model="tiny", messages=messages,
                                                        tools=[TOOL]).choices[0].message
        answer = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
        assert server.openai.chat.completions.create(model="tiny",
                                                     messages=[*messages,
                                                               message.model_dump(),
                                                               answer], tools=[TOOL]).choices


@pytest.mark.parametrize("error, message",
                         [(UserError("The policy gave NaN."), "gave NaN"),
                          (RuntimeError("a secret"), "server's log")])
def test_a_failing_engine_gives_500_or_an_error_event_and_serves_on(tokenizer, error, message):
    with scripted(tokenizer, "one two three four five", error) as server:
        with pytest.raises(openai.InternalServerError, match=message):
            server.openai.completions.create(**BODY)
        server.service.front.ask(lambda engine: setattr(engine, "steps", 0))
        with pytest.raises(openai.APIError, match=message):
            list(server.openai.completions.create(**BODY, stream=True))
        server.service.front.ask(lambda engine: setattr(engine, "failing", None))
        assert server.openai.completions.create(**BODY).choices[0].text == "one two three four five"
        assert server.service.in_flight == 0


def test_a_signal_that_comes_before_the_server_listens_to_signals_ends_it(front, tokenizer, monkeypatch):
    server = HttpServer(Service(front, tokenizer, Models(front, "tiny")), make_app, grace=1)
    run = server._server.run
    hung = []

    def rescued():
        hung.append(True)
        server._server.should_exit = True

    def run_after_a_signal(sockets):
        os.kill(os.getpid(), signal.SIGTERM)
        rescue = threading.Timer(30, rescued)
        rescue.start()
        run(sockets=sockets)
        rescue.cancel()

    monkeypatch.setattr(server._server, "run", run_after_a_signal)
    server.run()
    assert not hung


def test_sigterm_lets_the_requests_in_flight_finish_and_leaves_the_front_running(front, tokenizer, slow):
    service = Service(front, tokenizer, Models(front, "tiny"))
    server = HttpServer(service, make_app, grace=20)

    def client():
        answer = pool.submit(httpx2.post, f"{server.url}/v1/completions", json=BODY | {"max_tokens": 30},
                             timeout=60)
        wait_until(lambda: service.in_flight == 1)
        os.kill(os.getpid(), signal.SIGTERM)
        return answer.result(60)

    before = signal.getsignal(signal.SIGTERM)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answer = pool.submit(client)
        server.run()  # signals reach the main thread only
        assert answer.result().json()["usage"]["completion_tokens"] == 30
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{server.url}/health")
    assert front.alive and pages(front) == 0


def test_without_the_extra_the_import_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"uvicorn.*\[serve\]"):
        importlib.reload(jaxrl_moe.serving)
    monkeypatch.undo()
    importlib.reload(jaxrl_moe.serving)


def test_a_key_comes_from_a_file_or_the_environment_and_must_fit_a_header(tmp_path, monkeypatch):
    monkeypatch.setenv(keys.KEY_VARIABLE, "of-the-environment")
    path = tmp_path / "key"
    path.write_text("of-the-file\n")
    assert (keys.key_of_file(""), keys.key_of_file(str(path))) == ("of-the-environment", "of-the-file")
    for content, message in (("", "holds no API key"), ("two words", "spaces"), ("schlüssel", "ASCII")):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            keys.key_of_file(str(path))


@pytest.mark.parametrize("option, message", [(dict(slots=0), "--slots=0"),
                                             (dict(max_lora_rank=1, adapter="big"), "--max_lora_rank=1"),
                                             (dict(model="/nowhere/at/all"), "/nowhere"),
                                             (dict(host="0.0.0.0"), "no API key")])
def test_what_cannot_be_served_is_refused_at_the_start(folder, tmp_path, option, message):
    if option.get("adapter"):
        option = option | {"adapter": adapter(folder, tmp_path / "big")[0]}
    with pytest.raises(UserError, match=re.escape(message)):
        launch.serve(launch.Options(**{"model": str(folder), "port": 0, "slots": 1} | option), bridges)


def test_a_tokenizer_beyond_the_models_vocabulary_is_refused_before_the_model_is_loaded(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text('{"eos_token_id": 999}')
    bridge = types.SimpleNamespace(model_config=bridges.model_config)  # which cannot load one
    with pytest.raises(UserError, match="eos_token_id in generation_config.json has the id 999"):
        launch.serve(launch.Options(model=str(tmp_path / "model"), port=0, slots=1), bridge)
