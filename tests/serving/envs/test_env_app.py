"""The environment server as AgentGym's clients meet it: its formats, and a sentence for everything that is
wrong."""
import concurrent.futures
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from jaxrl_moe.serving.envs import launch
from jaxrl_moe.serving.envs.launch import EnvOptions, make_server
from jaxrl_moe.serving.envs.wires import WIRES
from jaxrl_moe.types import UserError
from tests.helpers.env_servers import env_server, number_of, spelled
from tests.helpers.games import Guessing, guessing
from tests.helpers.waiting import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module", params=WIRES)
def server(request):
    """(http client, what is served) of a server in each format."""
    with env_server(guessing(request.param), request.param) as (url, service):
        with httpx.Client(base_url=url) as http:
            yield http, service


def post(http, path, body, service=None):
    """The answer; of a body that is spelled as textcraft's where what is served is given."""
    answer = http.post(path, json=body if service is None else spelled(service.name, body))
    assert answer.status_code == 200, answer.text
    return answer.json()


def created(http, service):
    """A session that plays game 3."""
    number = number_of(post(http, "/create", {}))
    post(http, "/reset", {"id": number, "data_idx": 3}, service)
    return number


def shown(answer):
    """The observation that /reset and /step of any format tell."""
    return answer[0] if isinstance(answer, list) else answer.get("observation", answer.get("state"))


BODIES = [(b"", "the body is empty"), (b"{", "is no JSON: .* line 1, column 2"),
          (b'{"id": "\xff"}', "is no UTF-8 text: .* at byte 8"), ("{}".encode("utf-16"), "no UTF-8 text"),
          (b"[]", "dictionary|object"), (b"null", "required|dictionary|object"), (b"5", "dictionary|object"),
          (b'{"id": NaN}', "NaN is no JSON number"), (b"[" * 100_000, "levels deep"),
          (b'{"id": 1, "id": 2}', "the key 'id' stands twice")]


@pytest.mark.parametrize("path", ["/reset", "/step", "/close"])
@pytest.mark.parametrize("body, message", BODIES)
def test_a_body_that_is_none_is_an_error_in_a_sentence(server, path, body, message):
    answer = server[0].post(path, content=body, headers=JSON)
    assert answer.status_code == 200 and answer.json().keys() == {"error"}
    error = answer.json()["error"]
    assert re.search(message, error) and error.endswith(".") and "\n" not in error and len(error) < 2000


WRONG = [("/step", {"action": "1" * 2**20}, "action: .*at most 262144 characters"),
         ("/step", {"action": 5}, "action: .*string"), ("/step", {"action": None}, "action: .*string"),
         ("/step", {}, "action: Field required"),
         ("/step", {"action": "1", "speed": 2}, "speed: unknown field; this server ignores none"),
         ("/step", {"id": "1", "action": "1"}, "id: .*integer"),
         ("/step", {"id": 1.5, "action": "1"}, "id: .*integer"),
         ("/step", {"id": True, "action": "1"}, "id: .*integer"),
         ("/step", {"id": -1, "action": "1"}, "id: .*greater than or equal to 0"),
         ("/step", {"id": 10**30, "action": "1"}, "id: .*less than"),
         ("/step", {"id": 12345, "action": "1"}, "no session 12345 here"),
         ("/close", {"id": 12345}, "no session 12345 here"),
         ("/reset", {"id": 12345, "data_idx": 0}, "no session 12345 here"),
         ("/reset", {"data_idx": 100}, "no game 100: they are numbered from 0 to 99"),
         ("/reset", {"data_idx": -1}, "data_idx: .*greater than or equal to 0"),
         ("/reset", {"data_idx": 2**60}, "data_idx: .*less than"),
         ("/reset", {"data_idx": "3"}, "data_idx: .*integer"), ("/reset", {}, "data_idx: Field required"),
         ("/step", {"action": "crash"}, r"could not take the action: KeyError: 'the board' \(games.py")]


@pytest.mark.parametrize("path, body, message", WRONG)
def test_what_is_wrong_with_a_call_is_an_error_in_a_sentence(server, path, body, message):
    http, service = server
    number = created(http, service)
    answer = post(http, path, {"id": number} | body, service)
    for name, own in spelled(service.name, {"id": "id", "data_idx": "data_idx"}).items():
        message = re.sub(f"^{own}:", f"{name}:", message)  # as the format calls it
    assert answer.keys() == {"error"} and re.search(message, answer["error"]), answer
    assert "Traceback" not in answer["error"] and answer["error"].endswith(".")
    again = post(http, "/reset", {"id": number, "data_idx": 4}, service)  # it lives on
    assert shown(again) == "Game 4: guess."
    assert post(http, "/close", {"id": number}, service) == {"closed": True}


def test_a_step_after_the_end_and_on_a_closed_session_are_refused(server):
    http, service = server
    number = created(http, service)
    assert post(http, "/step", {"id": number, "action": "3"}, service)["done"]
    for _ in range(2):
        assert "has ended" in post(http, "/step", {"id": number, "action": "3"}, service)["error"]
    assert post(http, "/close", {"id": number}, service) == {"closed": True}
    for path, body in (("/step", {"action": "3"}), ("/close", {}), ("/reset", {"data_idx": 3})):
        assert f"no session {number}" in post(http, path, {"id": number} | body, service)["error"]
    for path in service.wire.looks:
        gone = http.get(path, params={service.wire.session: number})
        assert "no session" in gone.json()["error"]
    assert service.sessions.held == 0


@pytest.mark.parametrize("query, message", [
    ("", "ID: Field required"), ("?ID=x", "ID: .*integer"), ("?ID=-1", "ID: .*greater"),
    ("?ID=1&x=2", "Unknown query parameter 'x'")])
def test_a_query_that_is_wrong_is_an_error_in_a_sentence(server, query, message):
    http, service = server
    for path in service.wire.looks:
        answer = http.get(path + query.replace("ID", service.wire.session))
        assert answer.status_code == 200
        assert re.search(message.replace("ID", service.wire.session), answer.json()["error"])


def test_what_reaches_no_session_keeps_its_status(server):
    http = server[0]
    assert http.get("/nowhere").status_code == 404 and http.get("/step").status_code == 405
    assert http.get("/nowhere").json() == {"error": "Not Found."}
    wrong = http.post("/step", content=b"{}", headers={"Content-Type": "text/plain"})
    assert wrong.status_code == 200 and "Content-Type must be application/json" in wrong.json()["error"]


def test_a_key_is_asked_of_all_but_health_and_shows_nowhere():
    with env_server(Guessing(), api_key="secret-key") as (url, _), httpx.Client(base_url=url) as http:
        for path in ("/create", "/reset", "/step", "/close"):
            answer = http.post(path, json={}, headers={"Authorization": "Bearer wrong"})
            assert answer.status_code == 401 and "secret" not in answer.text
        assert http.get("/metrics").status_code == 401
        assert http.get("/").status_code == http.get("/health").status_code == 200
        known = http.post("/create", json={}, headers={"Authorization": "Bearer secret-key"})
        assert "id" in known.json()


def test_slow_sessions_of_any_number_hold_nobody_else():
    game = Guessing()
    with env_server(game, most=64) as (url, service), httpx.Client(base_url=url, timeout=30) as http:
        with concurrent.futures.ThreadPoolExecutor(40) as threads:
            numbers = [created(http, service) for _ in range(40)]
            slow = [threads.submit(httpx.post, f"{url}/step", json={"id": number, "action": "wait"},
                                   timeout=60) for number in numbers]
            wait_until(lambda: game.waiting == 40)
            quick = created(http, service)
            assert post(http, "/step", {"id": quick, "action": "3"})["done"]
            again = post(http, "/step", {"id": numbers[0], "action": "1"})
            assert "at work on another call" in again["error"]
            assert http.get("/health").json() == {"status": "ok", "env": "textcraft", "sessions": 41,
                                                  "held": 41, "most": 64}
            game.go.set()
            assert all("no number" in answer.result(30).json()["observation"] for answer in slow)


class Slow(Guessing):
    """Begins once it may go on."""
    def open(self, row, seed):
        self.waiting += 1
        self.go.wait(60)
        return super().open(row, seed)


def test_a_session_whose_client_did_not_wait_for_its_number_is_ended():
    game = Slow()
    with env_server(game) as (url, service):
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{url}/create", json={}, timeout=0.2)
        wait_until(lambda: game.waiting == 1)
        assert service.sessions.held == 1
        game.go.set()
        wait_until(lambda: service.sessions.held == 0)
        assert service.sessions.ended == {"unheard": 1} and (game.opened, game.closed) == (1, 1)
        number = httpx.post(f"{url}/create", json={}).json()["id"]
        assert httpx.post(f"{url}/step", json={"id": number, "action": "0"}).json()["done"]
        assert service.sessions.open == 1


def test_a_client_of_babyai_that_does_not_wait_leaves_no_session(monkeypatch):
    with env_server(Guessing(), "babyai") as (url, service):
        create = service.sessions.create
        go = threading.Event()
        monkeypatch.setattr(service.sessions, "create", lambda: go.wait(60) and create())
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{url}/create", json={}, timeout=0.2)
        go.set()
        wait_until(lambda: service.sessions.ended == {"unheard": 1})
        assert "id" in httpx.post(f"{url}/create").json() and service.sessions.open == 1


def test_sessions_of_clients_that_vanish_end_and_are_counted():
    game = Guessing()
    with env_server(game, most=8, idle_seconds=0.2) as (url, service):
        for _ in range(20):  # each leaves in the middle of a call, or after it
            with socket.create_connection(httpx.URL(url).netloc.decode().split(":")) as client:
                client.sendall(b"POST /create HTTP/1.1\r\nHost: localhost\r\n"
                               b"Content-Type: application/json\r\n"
                               b"Content-Length: 2\r\n\r\n{}")
        wait_until(lambda: service.calls.total() == 20 and service.sessions.held == 0)
        text = httpx.get(f"{url}/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines["jaxrl_moe_env_sessions"] == lines["jaxrl_moe_env_sessions_held"] == "0"
    ended = {name: float(count) for name, count in lines.items() if "sessions_ended_total" in name}
    assert sum(ended.values()) == game.opened == game.closed > 0
    assert all('why="expired"' in name or 'why="unheard"' in name for name in ended)
    assert lines["jaxrl_moe_env_sessions_most"] == "8"


GAME = "tests.helpers.games:Guessing"


@pytest.mark.parametrize("options, reason", [
    (dict(name="textcraf"), "env.name = 'textcraf' is not known. Did you mean 'textcraft'"),
    (dict(name="textcraft(recipes='large')"), "recipes = 'large' must be of type"),
    (dict(name=GAME), "no wire format 'tests.helpers.games:Guessing'.* --wire: textcraft, babyai"),
    (dict(name=GAME, wire="babyi"), "Did you mean 'babyai'"),
    (dict(name=f"{GAME}(turns=3)", wire="babyai"), "has no setting 'turns'"),
    (dict(name="gsm8k", wire="babyai"), "grades one completion"),
    (dict(name=GAME, wire="babyai", host="0.0.0.0"), "no API key")])
def test_what_cannot_be_served_is_refused_at_the_start(options, reason):
    with pytest.raises(UserError, match=reason):
        make_server(EnvOptions(port=0, **options))


def test_the_script_says_where_it_serves_and_ends_with_code_0_after_sigterm():
    command = [sys.executable, "scripts/serve.py", "env", f"--name={GAME}", "--wire=babyai", "--port=0",
               "--grace=1"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        url = re.fullmatch(rf"Serving {GAME} at (http://127.0.0.1:\d+)\n", process.stdout.readline())[1]
        number = httpx.post(f"{url}/create").json()["id"]
        httpx.post(f"{url}/reset", json={"id": number, "data_idx": 3})
        with pytest.raises(httpx.TimeoutException):  # one that hangs does not keep the server alive
            httpx.post(f"{url}/step", json={"id": number, "action": "wait"}, timeout=0.2)
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[0]
        assert process.returncode == 0 and "Traceback" not in rest, rest
        assert rest.endswith("Stopped; all sessions were closed but 1, whose environments do not answer.\n")
    finally:
        process.kill()


def test_the_server_of_a_process_ends_its_sessions(monkeypatch, capsys):
    monkeypatch.setattr(launch.HttpServer, "run", lambda server: server.__enter__() and server.__exit__())
    launch.serve_env(EnvOptions(name=GAME, wire="textcraft", port=0))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"Serving {GAME} at http://127.0.0.1:")
    assert said[1:] == ["Stopped; all sessions were closed."]
