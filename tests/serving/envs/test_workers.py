"""Several workers behind one port: sessions are spread, calls find theirs, and one that ends takes no other
with it."""
import concurrent.futures
import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
from http import client

import httpx
import pytest

from jaxrl_moe.envs.remote.agentgym import AgentGym
from jaxrl_moe.serving.envs.launch import EnvOptions
from jaxrl_moe.serving.envs.wires import WIRES
from jaxrl_moe.serving.envs.workers import pool
from jaxrl_moe.serving.envs.workers.app import make_app
from jaxrl_moe.serving.envs.workers.launch import make_server, shares
from jaxrl_moe.serving.envs.workers.pool import Workers
from jaxrl_moe.serving.envs.workers.totals import Totals
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.types import UserError
from tests.helpers.env_servers import env_server, played
from tests.helpers.games import Guessing, guessing
from tests.helpers.waiting import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]
GAME = "tests.helpers.games:Guessing"


class Thread:
    """A worker without a process: a server of this one."""
    key = "worker-key"

    def __init__(self, url, number):
        self.url = url
        self.number = number
        self.creating = 0
        self.created = 0
        self.replaced = 0

    def start(self):
        pass

    def ask_to_end(self):
        pass

    def close(self, seconds):
        return True


@contextlib.contextmanager
def in_front(count=3, wire="textcraft", api_key="", most=4, game=None):
    """(url, the workers' services, the workers) of a server in front of so many."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(env_server(game or guessing(wire), wire, api_key=Thread.key, most=most,
                                               share=(number, count))) for number in range(count)]
        threads = [Thread(url, number) for number, (url, _) in enumerate(made)]
        workers = Workers(wire, WIRES[wire], threads, 1.0)
        with HttpServer(workers, make_app, api_key=api_key, grace=1) as server:
            yield server.url, [service for _, service in made], threads


def post(http, path, body=None):
    answer = http.post(path, json=body or {})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("wire", WIRES)
def test_episodes_of_every_format_are_the_same_behind_workers(wire):
    words = [f"Action:\n{each}" for each in ("5", "two words", "3")]
    expected = played(guessing(wire).open({"id": 3}, 0), words)
    with in_front(2, wire) as (url, services, _), contextlib.closing(AgentGym(wire, url)) as task:
        assert [played(task.open({"id": 3}, 0), words) for _ in range(4)] == [expected] * 4
        counts = [service.calls["/reset", "answered"] for service in services]
        assert sum(counts) == 4 and all(counts)
        wait_until(lambda: sum(service.sessions.held for service in services) == 0)


def test_sessions_are_spread_and_health_and_metrics_are_sums():
    with in_front() as (url, services, _), httpx.Client(base_url=url, timeout=60) as http:
        numbers = [post(http, "/create")["id"] for _ in range(12)]
        assert [service.sessions.open for service in services] == [4, 4, 4]
        assert {number % 3 for number in numbers} == {0, 1, 2}
        full = post(http, "/create")["error"]
        assert full.startswith("All 12 sessions of this server are taken")
        assert http.get("/health").json() == {"status": "ok", "env": "textcraft", "sessions": 12,
                                              "held": 12, "most": 12, "workers": 3}
        text = http.get("/metrics").text
        assert 'jaxrl_moe_env_calls_total{path="/create",outcome="answered"} 12\n' in text
        assert "jaxrl_moe_env_sessions_most 12\n" in text and "jaxrl_moe_env_workers 3\n" in text
        assert text.count("# TYPE jaxrl_moe_env_sessions gauge") == 1
        post(http, "/close", {"id": numbers[4]})
        assert post(http, "/create")["id"] % 3 == numbers[4] % 3  # where there is room


def test_sessions_that_are_created_at_once_are_spread_too(monkeypatch):
    monkeypatch.setattr(pool, "ROOM_SECONDS", 600)  # however busy the machine is
    with in_front(most=8) as (url, services, _), concurrent.futures.ThreadPoolExecutor(24) as threads:
        made = list(threads.map(lambda _: httpx.post(f"{url}/create", json={}, timeout=600).json(),
                                range(24)))
        assert all("id" in answer for answer in made)
        assert [service.sessions.open for service in services] == [8, 8, 8]


ODD = [("POST", "/step", b"{", 200), ("POST", "/step", b"", 200), ("POST", "/step", b"[" * 10**5, 200),
       ("POST", "/step", b'{"id": "7", "action": "5"}', 200), ("POST", "/close", b'{"id": -1}', 200),
       ("POST", "/step", b'{"id": 1, "id": 2, "action": "5"}', 200), ("GET", "/observation", b"", 200),
       ("GET", "/observation?id=x", b"", 200), ("GET", "/observation?id=\xd9\xa3", b"", 200),
       ("GET", "/observation?id=" + "9" * 5000, b"", 200),
       ("GET", "/observation?id=1&id=2", b"", 200), ("GET", "/observation?x=1", b"", 200),
       ("GET", "/nowhere", b"", 404), ("GET", "/step", b"", 405), ("PUT", "/create", b"{}", 405),
       ("POST", "/reset", b'{"id": 12345, "data_idx": 3}', 200), ("GET", "/", b"", 200)]


@pytest.mark.parametrize("method, path, body, status", ODD)
def test_what_is_wrong_is_told_as_by_one_process(fronts, method, path, body, status):
    one, several = (http.request(method, path, content=body, headers={"Content-Type": "application/json"})
                    for http in fronts)
    assert (several.status_code, several.json()) == (one.status_code, one.json())
    assert several.status_code == status


@pytest.fixture(scope="module")
def fronts():
    """(client of one process, client of several)."""
    with env_server(Guessing()) as (one, _), in_front() as (several, _, _):
        with httpx.Client(base_url=one, timeout=60) as first:
            with httpx.Client(base_url=several, timeout=60) as second:
                yield first, second


def test_a_body_that_is_too_long_and_a_type_that_is_wrong_are_refused(fronts):
    for http in fronts:
        long = http.post("/step", json={"id": 1, "action": "a" * 2**22})
        assert "at most 262144 characters" in long.json()["error"]
        wrong = http.post("/step", content=b"{}", headers={"Content-Type": "text/plain"})
        assert "Content-Type must be application/json" in wrong.json()["error"]


def test_a_path_that_would_be_another_at_the_worker_is_none(fronts):
    for http in fronts:
        raw = client.HTTPConnection(http.base_url.host, http.base_url.port, timeout=60)
        raw.request("POST", "/create/../step", b"{}", {"Content-Type": "application/json"})
        answer = raw.getresponse()
        assert (answer.status, answer.read()) == (404, b'{"error": "Not Found."}')
        raw.close()


def test_a_path_with_a_last_slash_leads_back_to_the_same_server(fronts):
    answer = fronts[1].post("/step/", json={})
    assert answer.status_code == 307 and answer.headers["location"] == str(
        fronts[1].base_url.copy_with(path="/step"))


def test_the_key_is_the_servers_and_not_the_workers():
    with in_front(api_key="secret-key") as (url, _, _), httpx.Client(base_url=url, timeout=60) as http:
        for key in ("wrong", Thread.key):
            answer = http.post("/create", json={}, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 401 and "secret" not in answer.text
        assert http.get("/health").status_code == 200 and http.get("/metrics").status_code == 401
        known = http.post("/create", json={}, headers={"Authorization": "Bearer secret-key"})
        assert "id" in known.json()


def test_a_worker_that_has_ended_costs_its_sessions_alone():
    with in_front() as (url, services, threads), httpx.Client(base_url=url, timeout=60) as http:
        numbers = [post(http, "/create")["id"] for _ in range(3)]
        lost = next(number for number in numbers if number % 3 == 1)
        threads[1].url = "http://127.0.0.1:9"  # nobody listens there, as where a process was just killed
        said = post(http, "/step", {"id": lost, "action": "5"})["error"]
        assert "has ended, and its sessions with it" in said
        for number in set(numbers) - {lost}:
            assert post(http, "/step", {"id": number, "action": "5"})["observation"]
        threads[1].url = ""
        assert "has ended" in post(http, "/step", {"id": lost, "action": "5"})["error"]
        assert {post(http, "/create")["id"] % 3 for _ in range(6)} == {0, 2}
        assert http.get("/health").json()["workers"] == 2
        for thread in threads:
            thread.url = ""
        for path in ("/create", "/nowhere"):
            assert "None of the workers serves" in post(http, path)["error"]


class Slow(Guessing):
    """Begins once it may go on."""
    def open(self, row, seed):
        self.waiting += 1
        self.go.wait(60)
        return super().open(row, seed)


def test_a_session_whose_client_did_not_wait_for_its_number_is_ended_behind_workers():
    game = Slow()
    with in_front(2, game=game) as (url, services, threads):
        with socket.create_connection(httpx.URL(url).netloc.decode().split(":")) as client:
            client.sendall(b"POST /create HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                           b"Content-Length: 2\r\n\r\n{}")
            wait_until(lambda: game.waiting == 1)
        wait_until(lambda: not any(thread.creating for thread in threads))
        game.go.set()
        wait_until(lambda: sum((service.sessions.ended for service in services), start=type(
            services[0].sessions.ended)()) == {"unheard": 1})
        assert sum(service.sessions.held for service in services) == 0


def test_totals_keep_what_a_worker_that_ended_had_counted():
    def text(calls, sessions):
        return (f"# HELP calls_total calls\n# TYPE calls_total counter\ncalls_total{{path=\"/a\"}} {calls}\n"
                f"# HELP sessions open\n# TYPE sessions gauge\nsessions {sessions}\n")

    totals = Totals()
    assert totals.summed({0: text(0, 0)}, [0])[-1] == "sessions 0"
    both = totals.summed({0: text(3, 2), 1: text(4, 0.5)}, [0, 0])
    assert both == ["# HELP calls_total calls", "# TYPE calls_total counter", 'calls_total{path="/a"} 7',
                    "# HELP sessions open", "# TYPE sessions gauge", "sessions 2.5"]
    assert 'calls_total{path="/a"} 7' in totals.summed({1: text(4, 1)}, [0, 0])  # the first does not answer
    again = totals.summed({0: text(1, 1), 1: text(5, 1)}, [1, 0])
    assert 'calls_total{path="/a"} 9' in again and "sessions 2" in again
    assert 'calls_total{path="/a"} 10' in totals.summed({0: text(2, 1), 1: text(5, 1)}, [1, 0])


def test_the_sessions_are_shared_out():
    options = shares(EnvOptions("textcraft", sessions=8), 3)
    assert [(each.sessions, each.share) for each in options] == [(3, (0, 3)), (3, (1, 3)), (2, (2, 3))]
    with pytest.raises(UserError, match="2 sessions .* 3 workers"):
        shares(EnvOptions("textcraft", sessions=2), 3)


def test_what_no_worker_can_serve_is_refused_before_any_is_started(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(UserError, match="no wire format"):
        make_server(EnvOptions(GAME, port=0), 2)


@pytest.mark.slow
def test_processes_are_replaced_and_end_with_the_server():
    command = [sys.executable, "scripts/serve.py", "env", f"--name={GAME}", "--wire=babyai", "--port=0",
               "--grace=2", "--workers=2"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said = threading.Thread(target=lambda: process.stderr.read(), daemon=True)
    try:
        said.start()
        line = process.stdout.readline()
        url = re.fullmatch(rf"Serving {GAME} at (http://127.0.0.1:\d+) by 2 workers\n", line)[1]
        with httpx.Client(base_url=url, timeout=120) as http:
            numbers = [post(http, "/create")["id"] for _ in range(4)]
            assert sorted(number % 2 for number in numbers) == [0, 0, 1, 1]
            for number in numbers:
                assert "guess" in post(http, "/reset", {"id": number, "data_idx": 3})["observation"]
            victim, other = children(process.pid)
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: len(set(children(process.pid)) - {other}) == 1
                       and http.get("/health").json()["workers"] == 2, seconds=120)
            answers = [post(http, "/step", {"id": number, "action": "5"}) for number in numbers]
            lost = [answer for answer in answers if "error" in answer]
            assert len(lost) == 2 and all("no session" in answer["error"] for answer in lost)
            assert "jaxrl_moe_env_workers_replaced_total 1\n" in http.get("/metrics").text
            assert post(http, "/create")["id"] >= 0
        left = children(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "Stopped; all workers have ended.\n"
        assert process.wait(60) == 0
        assert not any(map(alive, left))
    finally:
        process.kill()


@pytest.mark.slow
def test_workers_end_with_a_server_that_was_killed():
    command = [sys.executable, "scripts/serve.py", "env", f"--name={GAME}", "--wire=babyai", "--port=0",
               "--grace=1", "--workers=2"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
                               stdout=subprocess.PIPE)
    process.stdout.readline()
    left = children(process.pid)
    process.kill()
    process.wait()
    assert len(left) == 2
    wait_until(lambda: not any(map(alive, left)), seconds=60)


@pytest.mark.slow
def test_a_worker_that_cannot_start_ends_the_server_with_its_reason():
    command = [sys.executable, "scripts/serve.py", "env", "--name=tests.helpers.games:unready",
               "--wire=babyai", "--port=0", "--workers=2"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
                          capture_output=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "There is no dice" in done.stderr
    assert "Worker 0 has ended with code 1 before it served" in done.stderr


def children(pid):
    """The processes that a process has started."""
    every = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [each for each in every if stat(each)[1:2] == [str(pid)]]


def alive(pid):
    return stat(pid)[:1] not in ([], ["Z"])


def stat(pid):
    """[state, parent, ...] of a process; [] where there is none."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
