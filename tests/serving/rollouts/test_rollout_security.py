"""What a client's base_url may lead to, and who may ask at all."""
import json
import socket

import httpx
import pytest

from jaxrl_moe.serving.policy import reading
from tests.helpers.games import Guessing
from tests.helpers.json_server import chat_answer, json_server
from tests.helpers.rollout_servers import body, finds, policy, rollout_server

KEY = "the-key-of-the-server"


def refusal(http, url):
    answer = http.post("/rollouts", json=body(url, [3]))
    assert answer.status_code == 200, answer.text
    return answer.json().get("error", "")


FORBIDDEN = [
    "http://169.254.169.254", "http://169.254.169.254:80/latest", "http://2852039166", "http://0xa9fea9fe",
    "http://0251.0376.0251.0376", "http://169.254.43518", "http://[::ffff:169.254.169.254]", "http://[fe80::1]",
    "http://[::ffff:a9fe:a9fe]", "http://100.100.100.200", "http://[fd00:ec2::254]", "http://168.63.129.16",
    "http://0.0.0.0:PORT", "http://[::]:PORT", "http://10.0.0.1", "http://example.org", "http://2130706433:PORT",
    "http://0x7f.1:PORT", "http://127.1:PORT", "http://017700000001:PORT", "http://user@127.0.0.1:PORT",
    "http://user:word@127.0.0.1:PORT", "http://127.0.0.1:PORT#@x", "http://127.0.0.1:PORT?x=1", "file:///etc/passwd",
    "gopher://127.0.0.1:PORT", "http://127.0.0.1.nip.io:PORT", "http://localhost.:PORT", "//127.0.0.1:PORT",
    "http://[::ffff:127.0.0.1]:PORT", "http://\uff11\uff12\uff17.0.0.1:PORT", "http://127.0.0.1:0", "http://:PORT"]


def test_no_address_is_called_that_nobody_has_allowed():
    with rollout_server(Guessing()) as (http, service), policy(finds) as (url, asked):
        for each in FORBIDDEN:
            said = refusal(http, each.replace("PORT", url.rpartition(":")[2]))
            assert said and said.endswith("."), each
        assert not asked and not service.rollouts.ended


@pytest.mark.parametrize("prefix, host", [
    ("http://169.254.169.254", "169.254.169.254"), ("http://2852039166", "2852039166"),
    ("http://[::ffff:169.254.169.254]", "[::ffff:169.254.169.254]"),
    ("http://100.100.100.200", "100.100.100.200"), ("http://0.0.0.0", "0.0.0.0")])
def test_what_keeps_a_clouds_secrets_is_not_called_though_the_operator_names_it(prefix, host):
    with rollout_server(Guessing(), allow=[prefix]) as (http, _):
        assert "is not called: its host is" in refusal(http, f"http://{host}/v1")


def test_what_the_operator_names_is_called_by_one_look_up(monkeypatch):
    looks = []
    real = socket.getaddrinfo

    def found(host, *rest, **others):
        if host != "policy.example.org":
            return real(host, *rest, **others)
        looks.append(host)
        address = "127.0.0.1" if len(looks) == 1 else "10.9.8.7"  # which is nowhere
        return real(address, *rest, **others)

    with policy(finds) as (url, asked):
        port = url.rpartition(":")[2]
        named = f"http://policy.example.org:{port}"
        with rollout_server(Guessing(), allow=[named], policy_timeout=5) as (http, _):
            monkeypatch.setattr(socket, "getaddrinfo", found)
            answer = http.post("/rollouts", json=body(named, [3])).json()
        assert answer["num_evaluated"] == 1 and looks == ["policy.example.org"]
        assert {call.headers["Host"] for call in asked} == {f"policy.example.org:{port}"}


def test_redirects_are_not_followed_and_no_proxy_is_asked(monkeypatch):
    with json_server(lambda *_: chat_answer("3")) as (elsewhere, asked):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, elsewhere)
        with rollout_server(Guessing()) as (http, _):
            for status in (301, 302, 307, 308):
                with policy(lambda _, status=status: (status, {"to": f"{elsewhere}/v1"})) as (url, _):
                    detail = httpx.post(http.base_url.join("/rollouts"), json=body(url, [3]),
                                        trust_env=False, timeout=60).json()["details"][0]
                assert f"status {status}" in detail["error"]
    assert not asked


def test_a_key_protected_server_asks_for_its_key_and_sends_it_nowhere():
    with rollout_server(Guessing(), api_key=KEY) as (http, _), policy(finds) as (url, asked):
        keyless = httpx.post(http.base_url.join("/rollouts"), json=body(url, [3]), timeout=60)
        assert keyless.status_code == 401 and not asked
        assert http.post("/rollouts", json=body(url, [3])).json()["num_evaluated"] == 1
        told = json.dumps([[call.headers, call.body] for call in asked])
    assert KEY not in told and "Authorization" not in told


def test_the_key_of_a_policy_stands_in_no_answer():
    def leak(path, body, headers):
        return 403, {"error": f"wrong: {headers['Authorization']}"}
    with rollout_server(Guessing()) as (http, _), json_server(leak) as (url, asked):
        text = http.post("/rollouts", json=body(url, [3], api_key="a-secret-of-mine")).text
    assert "a-secret-of-mine" not in text and "[the API key]" in text and len(asked) == 1


def test_a_server_without_a_key_answers_to_its_own_names_alone():
    with rollout_server(Guessing()) as (http, _), policy(finds) as (url, asked):
        port = str(http.base_url).rpartition(":")[2].strip("/")
        for host in ("evil.example.org", f"evil.example.org:{port}", "127.0.0.1.nip.io", ""):
            answer = http.post("/rollouts", json=body(url, [3]), headers={"Host": host})
            assert answer.status_code in (400, 403) and not asked
        for host in (f"localhost:{port}", f"127.0.0.1:{port}"):
            answer = http.post("/rollouts", json=body(url, [3]), headers={"Host": host})
            assert answer.json()["num_evaluated"] == 1


def test_an_answer_without_an_end_is_not_read_to_it(monkeypatch):
    answers = iter([chat_answer("1" * (2**22 + 1)), chat_answer("1" * (reading.LONGEST + 1))])
    with rollout_server(Guessing()) as (http, _), policy(lambda _: next(answers)) as (url, _):
        for reason in ("answered with more than 4194304 bytes", "more than 262144 characters"):
            detail = http.post("/rollouts", json=body(url, [3])).json()["details"][0]
            assert reason in detail["error"] and detail["status"] == "malformed"
