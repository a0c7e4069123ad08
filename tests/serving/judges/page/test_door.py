"""Who comes in at the judges' page, and what they may do there, over HTTP."""
import ast
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys

import httpx2
import pytest

from jaxrl_moe.judges.records import Part, Work
from jaxrl_moe.serving.http import gate
from jaxrl_moe.serving.judges.page import attempts, door
from jaxrl_moe.serving.judges.page.app import JudgePage, make_app, make_page
from jaxrl_moe.serving.judges.page.attempts import Attempts
from jaxrl_moe.serving.judges.page.sessions import PageSessions
from jaxrl_moe.serving.server import HttpServer
from tests.helpers.fake_queue import TOKENS, FakeQueue
from tests.helpers.judges_page import Judging, served

WORK = Work("Build a page.", ("<p>first", "<p>second"), (Part("html", "<p>second"), Part("text", "said")))
SCORES = {"layout": 0.6, "valid": 1, "taste": 0.25}
POSTS = ("lease", "renew", "answer", "skip", "postpone", "give_back", "logout")


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """A page for questions that leave it as it is."""
    with served(FakeQueue(), tmp_path_factory.mktemp("page") / "sessions") as url:
        yield url


def test_an_item_is_taken_shown_and_answered_and_nothing_tells_of_its_run(queue, ada):
    item = queue.put(WORK, run="secret-run")
    answer = ada.post("lease", {})
    lease = answer.json()["lease"]
    assert "secret-run" not in answer.text and lease["mode"] == "rubric" and 50 < lease["seconds_left"] <= 60
    assert [each["id"] for each in lease["rubric"]["criteria"]] == list(SCORES)
    assert lease["works"][0]["turns"] == list(WORK.turns) and lease["works"][0]["task"] == WORK.task
    assert [part["kind"] for part in lease["works"][0]["parts"]] == ["html", "text"]
    body = {"token": lease["token"], "scores": [SCORES], "comment": "good", "seconds": 12.5}
    assert ada.post("answer", body).status_code == ada.post("answer", body).status_code == 200
    given = queue.answers[item]["ada"]
    assert given.scores == (SCORES,) and given.comment == "good" and given.seconds == 12.5
    assert ada.post("answer", body | {"comment": "bad"}).status_code == 409
    assert ada.lease() is None


def test_compared_works_are_answered_by_an_order(queue, ada):
    item = queue.put(WORK, WORK, WORK, mode="ranking")
    token = ada.lease()["token"]
    assert ada.post("answer", {"token": token, "order": [[0], [1]]}).status_code == 400
    assert ada.post("answer", {"token": token, "order": [[1], [0, 2]]}).status_code == 200
    assert queue.answers[item]["ada"].order == ((1,), (0, 2))


def test_items_are_skipped_put_off_and_given_back(queue, ada):
    items = [queue.put(WORK) for _ in range(3)]
    for name in ("postpone", "skip"):
        assert ada.post(name, {"token": ada.lease()["token"]}).status_code == 200
    last = ada.lease()["token"]
    assert ada.post("renew", {"token": last}).json()["seconds_left"] > 50
    assert ada.post("give_back", {"token": last}).status_code == 200
    assert ada.post("renew", {"token": last}).status_code == 409
    assert queue.events == [("postpone", items[0]), ("skip", items[1]), ("renew", items[2]),
                            ("give_back", items[2])]


def test_progress_and_plots_show_a_judge_their_own_agreement_alone(queue, ada):
    queue.put(WORK, run="a")
    queue.put(WORK, run="b")
    ada.post("answer", {"token": ada.lease()["token"], "scores": [SCORES], "seconds": 3})
    state = ada.get("/api/progress").json()
    assert state == {"waiting": 1, "leased": 0, "postponed": 0, "done": 1, "answered": 1,
                     "runs": [{"name": "b", "items": 1}], "oldest_seconds": 42.0}
    plots = ada.get("/api/plots").json()
    assert [each["seconds"] for each in plots["recent"]] == [3] and plots["recent"][0]["ago"] < 60
    assert plots["agreement"] == {"items": 4, "fleiss": 0.375, "pairs": [{"with": "ben", "kappa": 0.5}],
                                  "gold": {"right": 3, "asked": 4}, "model": None}


def test_a_page_is_framed_under_a_policy_of_its_own(queue, ada):
    queue.put(WORK)
    frame = ada.get(ada.lease()["works"][0]["parts"][0]["frame"])
    assert frame.text == "<p>second" and frame.headers["content-type"] == "text/html; charset=utf-8"
    policy = frame.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'; ") and "frame-ancestors 'self'" in policy
    assert "allow-" not in policy and "http" not in policy and "script-src" not in policy
    assert "x-frame-options" not in frame.headers and frame.headers["x-dns-prefetch-control"] == "off"
    page = ada.get("/").headers
    assert page["x-frame-options"] == "DENY" and "frame-ancestors 'none'" in page["content-security-policy"]


@pytest.mark.parametrize("place", ["0/1", "0/9", "9/0", "-1/0", "0/-1"])
def test_frames_show_pages_alone(queue, ada, place):
    queue.put(WORK)
    assert ada.get(f"/frame/{ada.lease()['token']}/{place}").status_code == 404


def test_frames_of_a_lease_are_shown_to_its_judge_alone_also_after_a_restart(queue, url, tmp_path):
    queue.put(WORK)
    ada = Judging(url, "ada")
    frame = ada.lease()["works"][0]["parts"][0]["frame"]
    assert Judging(url).get(frame).status_code == 401
    assert Judging(url, "ben").get(frame).status_code == 409
    with served(queue, tmp_path / "sessions", port=0) as other:
        [session] = ada.http.cookies.values()
        cookie = f"judge_{other.rsplit(':', 1)[1]}={session}"
        assert httpx2.get(other + frame, headers={"Cookie": cookie}).text == "<p>second"


@pytest.mark.parametrize("token", ["x", "ada-token-0123456789abcde", "ada", "ä\u0000", "x" * 200])
def test_a_wrong_token_is_nobodys(standing, token):
    answer = Judging(standing).post("login", {"token": token})
    assert answer.status_code == 401 and "set-cookie" not in answer.headers
    assert not any(own in answer.text for own in TOKENS.values())


def test_wrong_tokens_are_counted_and_right_ones_are_not(url, queue):
    stranger = Judging(url)
    for _ in range(15):
        Judging(url, "ben")
    statuses = [stranger.post("login", {"token": f"wrong-{number}"}).status_code for number in range(12)]
    assert statuses == [401] * attempts.MOST + [429] * 2
    assert int(stranger.post("login", {"token": "wrong"}).headers["retry-after"]) in range(1, 62)
    assert stranger.post("login", {"token": TOKENS["ada"]}).status_code == 200  # whoever shares the address
    assert stranger.post("login", {"token": "wrong"}).status_code == 429


def test_attempts_are_forgotten_after_their_span_and_take_bounded_memory():
    now = [0.0]
    counted = Attempts(lambda: now[0])
    for number in range(attempts.MOST):
        now[0] = float(number)
        assert counted.wait("a") == 0
        counted.failed("a")
    assert counted.wait("a") == attempts.SPAN - (attempts.MOST - 1) and counted.wait("b") == 0
    now[0] = attempts.SPAN
    assert counted.wait("a") == 0
    for number in range(3 * attempts.ADDRESSES):
        counted.failed(f"address {number}")
    assert counted.wait("nobody yet") > 0  # all together are bounded too
    now[0] = 1000.0
    assert counted.wait("nobody yet") == 0
    assert len(counted._by_address) == attempts.ADDRESSES and len(counted._all) == attempts.MOST_OF_ALL


@pytest.mark.parametrize("path", ["/api/session", "/api/progress", "/api/plots", "/frame/x/0/0"])
@pytest.mark.parametrize("cookie", ["", "x", "ä" * 300])
def test_nothing_is_shown_without_a_session(standing, path, cookie):
    port = standing.rsplit(":", 1)[1]
    headers = {"Cookie": f"judge_{port}={cookie}".encode()} if cookie else {}
    assert httpx2.get(standing + path, headers=headers).status_code == 401


@pytest.mark.parametrize("name", POSTS)
def test_what_changes_something_needs_a_session_its_second_secret_and_this_origin(queue, url, ada, name):
    queue.put(WORK)
    token = ada.lease()["token"]
    body = {} if name in ("lease", "logout") else {"token": token}
    assert Judging(url).post(name, body).status_code == 401
    before = list(queue.events)
    for headers in ({"X-CSRF-Token": ""}, {"X-CSRF-Token": "0" * 64}, {"Origin": "https://evil.example"},
                    {"Origin": "null"}, {"Origin": ""}, {"Origin": url.rsplit(":", 1)[0] + ":1"}):
        answer = ada.post(name, body, **headers)
        assert answer.status_code == 403, (headers, answer.text)
    without = ada.http.post(f"/api/{name}", json=body, headers=ada.csrf)
    assert without.status_code == 403 and queue.events == before and ada.lease()["token"] == token


def test_login_needs_this_origin_too(standing):
    answer = Judging(standing).post("login", {"token": TOKENS["ada"]}, Origin="https://evil.example")
    assert answer.status_code == 403 and "set-cookie" not in answer.headers


@pytest.mark.parametrize("host, status", [("127.0.0.1:99999", 401), ("localhost", 401), ("[::1]:x", 403),
                                          ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("", 403)])
def test_only_names_of_this_machine_are_answered(standing, host, status):
    assert httpx2.get(standing + "/api/progress", headers={"Host": host}).status_code == status


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_not_answered(standing, method):
    assert httpx2.request(method, standing + "/api/lease").status_code == 405


@pytest.mark.parametrize("body, words", [
    ({}, "token"), ({"token": ""}, "token"), ({"token": "x", "scores": {"a": 1}}, "scores"),
    ({"token": "x", "scores": [{"a": True}]}, "scores"), ({"token": "x", "scores": [{"a": "1"}]}, "scores"),
    ({"token": "x", "order": [["0"]]}, "order"), ({"token": "x", "comment": "x" * 10_001}, "comment"),
    ({"token": "x", "seconds": -1}, "seconds"), ({"token": "x", "judge": "ben"}, "judge: unknown field"),
    ({"token": "x", "seconds": 1e9}, "seconds")])
def test_answers_of_another_form_are_refused(standing, body, words):
    answer = Judging(standing, "ada").post("answer", body)
    assert answer.status_code == 400 and words in answer.json()["error"]["message"]


def test_a_judge_sees_nothing_of_the_inside_where_the_queue_fails(queue, ada, caplog):
    queue.broken = True
    answer = ada.post("lease", {})
    assert answer.status_code == 500 and "database" not in answer.text
    assert not any(token in caplog.text for token in TOKENS.values())


@pytest.mark.parametrize("module, secret", [(door, "given"), (gate, "authorization")])
def test_secrets_are_compared_in_constant_time(module, secret):
    tree = ast.parse(inspect.getsource(module))
    compared = [ast.unparse(node) for node in ast.walk(tree)
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "hmac.compare_digest"]
    assert any(secret in each for each in compared)
    others = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    assert not any(re.search(r"given|csrf|authorization|_key\b", each) for each in others)


@pytest.mark.slow
def test_a_fuzzer_on_the_routes_finds_no_server_error(queue, tmp_path):
    for _ in range(3):
        queue.put(WORK)
    page = JudgePage(queue, PageSessions(tmp_path / "sessions"), 60.0)
    with HttpServer(page, make_page, grace=1, logins=True) as server:
        ada = Judging(server.url, "ada")
        token = ada.lease()["token"]
        schema = make_app(page).openapi()
        del schema["paths"]["/api/logout"]
        for name in ("LeaseBody", "AnswerBody"):  # of which some meet a lease
            schema["components"]["schemas"][name]["properties"]["token"] = {"enum": [token, "another"]}
        path = tmp_path / "openapi.json"
        path.write_text(json.dumps(schema))
        cookie = "; ".join(f"{name}={value}" for name, value in ada.http.cookies.items())
        headers = ada.origin | ada.csrf | {"Cookie": cookie}
        command = [sys.executable, "-m", "schemathesis.cli", "run", str(path), f"--url={server.url}",
                   *(f"--header={name}: {value}" for name, value in headers.items()),
                   "--checks=not_a_server_error", "--phases=examples,coverage,fuzzing", "--max-examples=60",
                   "--request-timeout=60", "--no-color"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        assert queue.events and ada.get("/api/session").status_code == 200


@pytest.mark.slow
def test_the_command_refuses_in_one_paragraph():
    root = pathlib.Path(__file__).resolve().parents[4]
    for arguments, words in (([], "--queue"), (["--queue=sqlite:///q.db", "--host=0.0.0.0"], "--public_url")):
        command = [sys.executable, "scripts/serve.py", "judge-page", *arguments]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True,
                              env=os.environ | {"PYTHONPATH": str(root)})
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
