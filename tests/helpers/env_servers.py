"""Environment servers in threads on loopback: ours over any task, and fakes in AgentGym's shapes that fail on
demand."""
import contextlib
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import urllib.request

from jaxrl_moe.serving.envs.app import EnvService, make_app
from jaxrl_moe.serving.envs.sessions import Sessions
from jaxrl_moe.serving.envs.wires import WIRES
from jaxrl_moe.serving.server import HttpServer
from tests.helpers.fakes import Call, Fake, drip, send

ROOT = pathlib.Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def env_server(task, wire="textcraft", *, api_key="", port=0, **options):
    """(url, what is served) of a server over a task."""
    service = EnvService(wire, WIRES[wire], Sessions(task, tells=WIRES[wire].tells, **options))
    with HttpServer(service, make_app, api_key=api_key, port=port, grace=1) as server:
        yield server.url, service


def spelled(wire, body):
    """A body of textcraft's `id` and `data_idx` as a wire format spells it."""
    names = {"id": WIRES[wire].session,
             "data_idx": {"alfworld": "game", "webshop": "session_id"}.get(wire, "data_idx")}
    own = {names.get(name, name): value for name, value in body.items()}
    return own | ({"world_type": "Text"} if "game" in own else {})


def number_of(answer):
    """The session that an answer of /create tells."""
    return answer if isinstance(answer, int) else answer["id"]


def alfworld(path, body):
    if path == "/create":
        return {"id": 7}
    if path == "/reset":
        assert body == {"id": 7, "game": 3, "world_type": "Text"}
        return {"id": 7, "observation": "You are in a room.", "available_actions": ["look", "go to desk 1"],
                "task_type": "pick_and_place"}
    won = body == {"id": 7, "action": "go to desk 1"}
    return {"observation": "You win." if won else "Nothing happens.", "reward": float(won),
            "available_actions": ["look"], "done": won}


def sciworld(path, body):
    if path == "/create":
        return {"id": 0}
    if path == "/reset":
        assert body == {"id": 0, "data_idx": 3}
        return {"task_name": "boil", "var_num": 1, "task_description": "Boil water.",
                "observation": "A kitchen.", "reward": 0, "score": 0, "deleted": False, "done": False}
    score = {"open tap": 25, "boil": 100, "focus on cup": -100}.get(body["action"], 25)
    return {"observation": body["action"], "reward": score, "score": score, "done": abs(score) == 100}


def webshop(path, body):
    if path == "/create":
        return 41
    if path == "/reset":
        assert body == {"env_idx": 41, "session_id": 3}
        return ["Instruction: buy a cup.", None]
    assert set(body) == {"env_idx", "action"}
    bought = body["action"].startswith("click[buy")
    reward = {"click[buy now]": 1.0}.get(body["action"], 0.5 * bought)
    return {"state": body["action"], "reward": reward, "done": bought, "info": None}


def textcraft(path, body):
    if path in ("/create", "/reset"):
        return {"id": 5, "observation": "Goal: craft stick.", "done": False, "reward": 0}
    if path == "/close":
        return {"closed": True}
    won = body["action"] == "craft 4 stick using 2 planks"
    return {"observation": "Crafted" if won else f"Could not execute {body['action']}", "reward": int(won),
            "done": won}


def forwarded(url):
    """The game that another server plays."""
    def ask(path, body):
        call = urllib.request.Request(url + path, json.dumps(body).encode(),
                                      {"content-type": "application/json"})
        with urllib.request.urlopen(call, timeout=60) as answer:
            return json.load(answer)
    return ask


class FakeGym(Fake):
    """A server of one of the games above.

    Attributes:
      fault: what goes wrong with a call: "", "hang", "500", "page" (which is no JSON), "list", "error",
        "drop" (of the connection), "drip", "half" (an answer without its end), "lacks" (a field), "nan",
        "text" (in place of a number). Several with spaces between take turns.
      at: the paths of the calls that it goes wrong with, with spaces between.
      after: how many of these calls are answered well before.
      every: of the following ones one in so many goes wrong.
      failed: how many did.
      asked: [(path, body)] in order.
    """
    served = ("/create", "/reset", "/step")

    def __init__(self, game, fault="", at="/step", after=0, every=1):
        self.fault = fault
        self.at = at
        self.after = after
        self.every = every
        self.failed = 0
        self.asked = []
        self._fit = itertools.count(1)
        self._door = threading.Lock()
        outer = self

        class Handler(Call):
            def do_POST(self):
                body = self.read()
                outer.asked.append((self.path, body))
                fault = outer.fault_of(self.path)
                if fault:
                    outer.fail(self, fault, game(self.path, body))
                elif self.path not in outer.served and game in (alfworld, sciworld, webshop):
                    send(self, 404, {"detail": "Not Found"})
                else:
                    send(self, 200, game(self.path, body))

        self.listen(Handler)

    def fault_of(self, path):
        """What goes wrong with the next call of a path."""
        if not self.fault or path not in self.at.split():
            return ""
        with self._door:
            number = next(self._fit) - self.after
            if number < 1 or number % self.every:
                return ""
            faults = self.fault.split()
            self.failed += 1
            return faults[self.failed % len(faults)]

    def fail(self, request, fault, answer):
        data = json.dumps(answer).encode()
        if fault == "hang":
            self.hang(request)
        elif fault == "drop":
            request.close_connection = True
        elif fault == "drip":
            drip(request, data + b" " * 1000)
        elif fault == "half":
            request.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + data)
            request.close_connection = True
        else:
            status, body = {
                "500": (500, b"Internal Server Error"), "page": (200, b"<html>"), "list": (200, b"[1, 2]"),
                "error": (200, b'{"error": "The id 5 is not valid."}'), "lacks": (200, b'{"reward": 0}'),
                "nan": (200, re.sub(rb'"reward": [0-9.]+', b'"reward": NaN', data)),
                "text": (200, re.sub(rb'"reward": [0-9.]+', b'"reward": "0"', data))}[fault]
            send(request, status, None, body)


class EnvProcess:
    """scripts/serve.py env in a process of its own, on one port through all its lives."""

    def __init__(self, name):
        self._name = name
        self._process = None
        self.url = ""
        self.start()

    def start(self):
        """Returns once it serves."""
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, "scripts/serve.py", "env", f"--name={self._name}", f"--port={port}"]
        self._process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
                                         text=True, stdout=subprocess.PIPE)
        self.url = self._process.stdout.readline().split(" at ")[-1].strip()
        assert self.url, "it ended before it served"

    def kill(self):
        """By SIGKILL."""
        self._process.kill()
        self._process.communicate()

    def metric(self, name):
        """The sum of a metric over its labels."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"jaxrl_moe_{name}"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def played(env, texts):
    """[what an episode shows first, then its steps], of the answers of a policy."""
    from jaxrl_moe.types import Action
    with contextlib.closing(env):
        shown = [env.reset()]
        for text in texts:
            shown.append(env.step(Action(text, 1, False)))
            if shown[-1].done:
                break
    return shown


