"""Environment servers in threads on loopback: ours over any task, and fakes in AgentGym's shapes that fail on
demand."""
import contextlib
import http.server
import json
import threading

from jaxrl_moe.serving.envs.app import EnvService, make_app
from jaxrl_moe.serving.envs.sessions import Sessions
from jaxrl_moe.serving.envs.wires import WIRES
from jaxrl_moe.serving.server import HttpServer
from tests.helpers.fake_server import Listener, drip, send


@contextlib.contextmanager
def env_server(task, wire="textcraft", *, api_key="", port=0, **options):
    """(url, what is served) of a server over a task."""
    service = EnvService(wire, WIRES[wire], Sessions(task, **options))
    with HttpServer(service, make_app, api_key=api_key, port=port, grace=1) as server:
        yield server.url, service


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


class FakeGym:
    """A server of one of the games above.

    Attributes:
      fault: what goes wrong with a call: "", "hang", "500", "page" (which is no JSON), "list", "error",
        "drop" (of the connection), "drip", "half" (an answer without its end), "lacks" (a field), "nan",
        "text" (in place of a number).
      at: the path of the calls that it goes wrong with.
      asked: [(path, body)] in order.
    """
    served = ("/create", "/reset", "/step")

    def __init__(self, game, fault="", at="/step"):
        self.fault = fault
        self.at = at
        self.asked = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16

            def log_message(self, *arguments):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append((self.path, body))
                if self.path == outer.at and outer.fault:
                    outer.fail(self, game(self.path, body))
                elif self.path not in outer.served and game is not textcraft:
                    send(self, 404, {"detail": "Not Found"})
                else:
                    send(self, 200, game(self.path, body))

        self._over = threading.Event()
        self._server = Listener(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02},
                         daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, request, answer):
        data = json.dumps(answer).encode()
        if self.fault == "hang":
            self._over.wait(60)
            request.close_connection = True
        elif self.fault == "drop":
            request.close_connection = True
        elif self.fault == "drip":
            drip(request, data + b" " * 1000)
        elif self.fault == "half":
            request.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + data)
            request.close_connection = True
        else:
            status, body = {
                "500": (500, b"Internal Server Error"), "page": (200, b"<html>"), "list": (200, b"[1, 2]"),
                "error": (200, b'{"error": "The id 5 is not valid."}'), "lacks": (200, b'{"reward": 0}'),
                "nan": (200, data.replace(b'"reward": 0', b'"reward": NaN')),
                "text": (200, data.replace(b'"reward": 0', b'"reward": "0"'))}[self.fault]
            send(request, status, None, body)


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


