"""Who may call a task app; and that its keys stand nowhere."""
import hmac

import httpx
import pytest

from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.serving.tasks import keys
from jaxrl_moe.serving.tasks.app import make_app
from jaxrl_moe.serving.tasks.keys import TaskKeys, keys_of, offered_keys
from jaxrl_moe.types import UserError
from tests.helpers.task_apps import task_app

FIRST = "sk_env_first-key"
SECOND = "another-key"
GUARDED = ("/health", "/info", "/task_info", "/metrics", "/openapi.json", "/docs", "/nowhere")


@pytest.fixture(scope="module")
def url():
    with task_app(keys=(FIRST, SECOND)) as (http, _):
        yield http.base_url


@pytest.mark.parametrize("headers", [
    {"X-API-Key": FIRST}, {"X-API-Key": SECOND}, {"X-API-Keys": f"old, {SECOND}"}, {"X-API-Keys": FIRST},
    {"Authorization": f"Bearer {FIRST}"}, {"Authorization": f"bearer {SECOND}"},
    {"X-API-Key": "wrong", "Authorization": f"Bearer {FIRST}"}])
def test_any_key_in_any_of_the_headers_opens(url, headers):
    with httpx.Client(base_url=url, headers=headers) as http:
        for path in ("/health", "/info", "/task_info"):
            assert http.get(path).status_code == 200
        assert http.post("/rollout", json={}).status_code == 400


@pytest.mark.parametrize("headers", [
    {}, {"X-API-Key": ""}, {"X-API-Key": FIRST[:-1]}, {"X-API-Key": FIRST + "x"},
    {"X-API-Keys": f"{FIRST};{SECOND}"}, {"Authorization": FIRST}, {"Authorization": f"Basic {FIRST}"},
    {"X-API-Keys": ",".join(["x"] * 32 + [FIRST])},
    {"X-API-Key": f"{FIRST},{SECOND}"}, {"Cookie": f"X-API-Key={FIRST}"}])
def test_nothing_else_does_and_no_key_is_told(url, headers, caplog):
    with httpx.Client(base_url=url, headers=headers) as http:
        for path in GUARDED:
            answer = http.get(path)
            assert answer.status_code == 401
            shown = answer.text + str(answer.headers)
            assert not any(key[:5] in shown for key in ("first-key", SECOND)) and "sk_env" not in shown
        assert http.post("/rollout", json={}).status_code == 401
        assert http.get("/").status_code == http.head("/").status_code == 200
    assert FIRST not in caplog.text and SECOND not in caplog.text


def test_without_a_key_nobody_is_let_in():
    with task_app(keys=()) as (http, _):
        for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": "x"}):
            for path in GUARDED:
                assert http.get(path, headers=headers).status_code == 503
            assert http.post("/rollout", json={}, headers=headers).status_code == 503
        assert "ENVIRONMENT_API_KEY" in http.get("/info").json()["error"]["message"]
        assert http.get("/").status_code == 200


def test_all_keys_are_compared_in_constant_time_whatever_comes(monkeypatch):
    compared = []
    compare = hmac.compare_digest

    def watched(one, other):
        compared.append((len(one), len(other)))
        return compare(one, other)
    monkeypatch.setattr(keys.hmac, "compare_digest", watched)
    known = TaskKeys([FIRST, SECOND, "third"])
    for offered in ([FIRST.encode(), b"x"], [b"x", b"a much longer one than that"]):
        compared.clear()
        known.admit(offered)
        assert compared == [(32, 32)] * 6  # hashes, so that lengths tell nothing


def test_keys_come_from_the_environment_and_a_file(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXRL_MOE_API_KEY", raising=False)
    file = tmp_path / "key"
    file.write_text("of-the-file\n")
    environment = {"ENVIRONMENT_API_KEY": " a ", "ENVIRONMENT_API_KEY_ALIASES": "b, ,c,"}
    assert keys_of(environment, str(file)) == ("a", "b", "c", "of-the-file")
    assert keys_of({}) == () and keys_of({"ENVIRONMENT_API_KEY_ALIASES": "b"}) == ("b",)


def test_offered_keys_are_those_of_all_headers():
    assert offered_keys([(b"x-api-keys", b"a, b,,c"), (b"x-api-key", b" d "), (b"authorization", b"Bearer e"),
                         (b"authorization", b"Basic f")]) == [b"a", b"b", b"c", b"d", b"e"]


def test_a_prefix_is_told_only_where_it_is_the_usual_one():
    with task_app(keys=(SECOND, FIRST)) as (http, _):
        assert http.get("/health").json()["auth"] == {"required": True, "expected_prefix": None}


def test_others_can_reach_no_server_without_a_key():
    with task_app(keys=()) as (_, service), pytest.raises(UserError, match="no API key"):
        HttpServer(service, make_app, host="0.0.0.0")
