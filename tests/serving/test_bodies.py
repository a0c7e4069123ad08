"""What clients may send as bodies, and what a large one costs the others."""
import asyncio
import concurrent.futures
import json
import re
import socket
import threading

import pytest

from jaxrl_moe.serving.http import bodies
from jaxrl_moe.serving.openai.prompts import Prompts, widest_token
from tests.helpers.serving import serving
from tests.helpers.tiny_tokenizers import byte_fallback, word_piece
from tests.helpers.waiting import wait_until

IDS = [5, 17, 100]
SHORT = {"model": "tiny", "prompt": "Tom has 3", "max_tokens": 2}
JSON = {"Content-Type": "application/json"}
HEAD = (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n")
PATHS = ("/v1/completions", "/v1/chat/completions", "/v1/load_lora_adapter")


def post(server, content, path="/v1/completions", headers=JSON):
    return server.http.post(path, content=content, headers=headers)


def around(value):
    """A body with a value, as text, in place of the prompt."""
    return b'{"model": "tiny", "max_tokens": 2, "prompt": ' + value + b"}"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body, message", [
    (b"", "the body is empty"), (b"  \n", "the body is empty"),
    (b'{"model": "tiny",\n "prompt": "a"', "is no JSON: .* at line 2, column 15"),
    (b"{", "at line 1, column 2"), (b"{'a': 1}", "at line 1, column 2"), (b'{"a": 1,}', "is no JSON"),
    (b'{"a": 1} x', "is no JSON: Extra data at line 1, column 10"),
    (b'{"a": "\xff"}', "no UTF-8 text: .* at byte 7"), ('{"a": 1}'.encode("utf-16"), "no UTF-8 text"),
    (b"[" * 100_000, "levels deep"), (b'{"a": ' * 70 + b"1" + b"}" * 70, "levels deep"),
    (b'{"a": NaN}', "NaN is no JSON number"), (b'{"a": -Infinity}', "-Infinity is no JSON number"),
    (b'{"a": 1e999}', "1e999 is beyond"), (b'{"a": 1' + b"0" * 5000 + b"}", "limit"),
    (b'{"model": "tiny", "model": "b"}', "the key 'model' stands twice")])
def test_a_body_that_is_no_json_is_told_with_the_place_and_no_parameter(server, path, body, message):
    answer = post(server, body, path)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] is None and error["type"] == "invalid_request_error"
    assert re.search(message, error["message"]), error


@pytest.mark.parametrize("body", [b"[]", b"[1]", b"null", b'"x"', b"5", b"true"])
def test_a_body_that_is_no_object_is_refused(server, body):
    answer = post(server, body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] is None
    assert "object" in answer.json()["error"]["message"] or "dictionary" in answer.json()["error"]["message"]


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "1e308", "1.5", "true", '"5"'])
@pytest.mark.parametrize("field", ["max_tokens", "n", "seed", "top_k", "temperature", "top_p", "min_tokens"])
def test_huge_and_other_numbers_are_taken_or_refused_by_name(server, field, number):
    body = json.dumps(SHORT)[:-1] + f', "{field}": {number}}}'
    if field == "max_tokens":
        body = body.replace('"max_tokens": 2, ', "").replace(', "max_tokens": 2', "", 1)
    answer = post(server, body.encode())
    taken = (field, number) == ("temperature", "1.5")
    assert answer.status_code == (200 if taken else 400)
    assert taken or field in answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "nonsense",
                                  "application/json; charset=latin-1", "multipart/form-data; boundary=x"])
def test_another_type_of_content_is_refused(server, kind):
    answer = post(server, json.dumps(SHORT).encode(), headers={"Content-Type": kind})
    assert answer.status_code == 415 and "error" in answer.json()


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON",
                                  "application/a+json"])
def test_json_by_other_names_is_taken(server, kind):
    assert post(server, json.dumps(SHORT).encode(), headers={"Content-Type": kind}).status_code == 200


MEGABYTES = 15 * 2**20
LARGE = {
    "one text": (around(b'"' + b"Tom has 3 apples. " * (MEGABYTES // 18) + b'"'), 400),
    "one word": (around(b'"' + b"a" * MEGABYTES + b'"'), 400),
    "line breaks": (around(b'"' + b"\\n" * (MEGABYTES // 2) + b'"'), 400),
    "100,000 texts": (around(json.dumps(["a b"] * 100_000).encode()), 400),
    "100,000 lists": (around(json.dumps([[5]] * 100_000).encode()), 400),
    "a million ids": (around(json.dumps([5] * 1_000_000).encode()), 400),
    "seven million ids": (around(b"[" + b"5," * 7_000_000 + b"5]"), 413),
    "empty lists": (around(b"[" + b"[]," * 5_000_000 + b"[]]"), 413),
    "empty texts": (around(b"[" + b'"",' * 5_000_000 + b'""]'), 413),
    "nested": (around(b"[" * (MEGABYTES // 2) + b"]" * (MEGABYTES // 2)), 413),
    "fields": (b"{" + b",".join(b'"f%d": 1' % at for at in range(200_000)) + b"}", 400),
    "other ids": (around(json.dumps([5] * 300_000 + ["a"]).encode()), 400)}


@pytest.mark.parametrize("case", LARGE)
def test_a_large_body_is_refused_soon(server, case):
    body, status = LARGE[case]
    answer = post(server, body)
    assert answer.status_code == status and len(answer.text) < 2000, answer.text[:500]
    assert server.service.in_flight == 0


@pytest.mark.parametrize("messages", [
    [{"role": "user", "content": "a"}] * 20_000,
    [{"role": "user", "content": "apples " * 100_000}],
    [{"role": "wizard", "content": "a"}] * 60_000,
    [{"role": "user", "content": [{"type": "text", "text": "a"}] * 50_000}]])
def test_a_chat_of_very_many_messages_is_refused(server, messages):
    body = json.dumps({"model": "tiny", "messages": messages}).encode()
    answer = post(server, body, "/v1/chat/completions")
    assert answer.status_code == 400 and len(answer.text) < 2000, answer.text[:500]


def test_a_short_request_does_not_wait_for_a_long_one_to_be_encoded(front, tokenizer, monkeypatch):
    """Nor for one whose client has left, which is not encoded at all."""
    encoded = []
    answered = threading.Event()
    encode = tokenizer.encode

    def slowly(text):
        encoded.append(text)
        if len(text) > 10_000:
            answered.wait(60)
        return encode(text)

    monkeypatch.setattr(tokenizer, "encode", slowly)
    monkeypatch.setattr("jaxrl_moe.serving.openai.prompts.SHORT", 10_000)
    monkeypatch.setattr("jaxrl_moe.serving.openai.prompts.HEAD", 1000)
    monkeypatch.setattr("jaxrl_moe.serving.openai.prompts.widest_token", lambda hf: None)
    with serving(front, tokenizer) as server, concurrent.futures.ThreadPoolExecutor(2) as pool:
        texts = [letter * 9_000 + " so" * 1000 for letter in "ab"]
        waiting = [pool.submit(server.http.post, "/v1/completions", json=SHORT | {"prompt": text})
                   for text in texts]
        wait_until(lambda: encoded and server.service.in_flight == 2)
        leave(server, SHORT | {"prompt": "c" * 9_000 + " so" * 1000})
        assert server.http.post("/v1/completions", json=SHORT).status_code == 200
        assert not any(future.done() for future in waiting)
        answered.set()
        assert [future.result().status_code for future in waiting] == [400, 400]
        assert len(encoded) == 3 and server.service.in_flight == 0  # those two, and the short one


def leave(server, body):
    """Sends a request and closes the connection once it is admitted."""
    before = server.service.in_flight
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as client:
        client.sendall(HEAD % len(data) + data)
        wait_until(lambda: server.service.in_flight == before + 1)
    wait_until(lambda: server.service.in_flight == before)


def test_room_is_asked_for_before_a_prompt_is_encoded(front, tokenizer, monkeypatch):
    with serving(front, tokenizer, queue=0) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        front.release()
        waiting = pool.submit(server.http.post, "/v1/completions", json=SHORT | {"n": 4})
        wait_until(lambda: server.service.in_flight == 4)
        monkeypatch.setattr(tokenizer, "encode", lambda text: pytest.fail("it was encoded"))
        assert server.http.post("/v1/completions", json=SHORT).status_code == 429
        answer = server.http.post("/v1/completions", json=SHORT | {"prompt": ["a"] * 5})
        assert answer.status_code == 400 and "at most 4 at once" in answer.text
        front.resume()
        assert waiting.result(60).status_code == 200 and server.service.in_flight == 0


@pytest.mark.parametrize("sent", [0, 1000, bodies.LARGE + 1])
def test_a_body_that_does_not_come_is_given_up(front, tokenizer, monkeypatch, sent):
    monkeypatch.setattr(bodies, "SECONDS", 0.3)
    with serving(front, tokenizer) as server:
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as client:
            client.sendall(HEAD % 1_000_000 + b" " * sent)
            assert server.http.post("/v1/completions", json=SHORT).status_code == 200
            client.settimeout(10)
            assert b"408" in client.recv(200)


def test_bodies_of_clients_that_left_hold_no_turn(front, tokenizer):
    with serving(front, tokenizer) as server:
        for _ in range(bodies.LARGE_AT_ONCE + 2):
            with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as client:
                client.sendall(HEAD % 1_000_000 + b" " * (bodies.LARGE + 1))
        assert post(server, around(b'"' + b"a" * 2 * bodies.LARGE + b'"')).status_code == 400


def test_the_widest_token_bounds_what_a_context_holds(tokenizer):
    hf = tokenizer.hf
    assert widest_token(hf) == max(len(hf.decode([i])) for i in range(len(hf)))
    assert widest_token(byte_fallback()) == len("<0x00>")
    assert widest_token(word_piece()) is None  # a word of any length may be unknown


@pytest.mark.parametrize("make", [byte_fallback, word_piece])
def test_a_text_that_fits_is_encoded_whole_however_wide_its_tokens(make, tokenizer):
    class Fake:
        hf = make()
        encode = staticmethod(lambda text: hf_ids(text))

    def hf_ids(text):
        return Fake.hf.encode(text, add_special_tokens=False)

    prompts = Prompts(Fake, 1000)
    for text in ("a " * 400, "the " * 300, " " * 40_000 if make is word_piece else "b" * 900):
        assert list(asyncio.run(prompts.encode(text))) == hf_ids(text)
    prompts.close()


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/models", "/v1/models/tiny",
                                  "/health", "/metrics", "/v1/load_lora_adapter"])
@pytest.mark.parametrize("query, name", [("stream=true", "stream"), ("a", "a"), ("x%20y=", "x y"),
                                         ("api-version=1&seed=3", "seed")])
def test_a_parameter_in_the_query_is_refused_by_name(server, path, query, name):
    answer = server.http.get(f"{path}?{query}")
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == name and repr(name) in error["message"]


def test_the_version_that_clients_for_azure_add_passes(server):
    assert server.http.get("/v1/models?api-version=2024-10-21").status_code == 200


@pytest.mark.parametrize("path, body", [
    ("/v1/completions", {"model": "x" * 100_000, "prompt": "a"}),
    ("/v1/completions", {"model": "tiny", "prompt": "a", "y" * 100_000: 1}),
    ("/v1/completions", {"model": "tiny", "prompt": "a", "stop": {"y" * 100_000: 1}}),
    ("/v1/completions", {"model": "tiny", "prompt": "a", "temperature": "z" * 100_000}),
    ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "w" * 100_000, "content": "a"}]}),
    ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": "a", "k" * 999: 1}]}),
    ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": "a"}],
                              "response_format": {"type": "t" * 100_000}})])
def test_what_a_client_sent_is_cut_in_the_answer(server, path, body):
    answer = post(server, json.dumps(body).encode(), path)
    assert 400 <= answer.status_code < 500 and len(answer.content) < 4000
