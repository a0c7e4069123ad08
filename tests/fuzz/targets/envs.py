"""Calls of environment servers: never a server's error, no session that nobody knows of, and a game that
somebody else plays meanwhile goes on as it stood."""
import contextlib
import json
import pathlib
import random
from typing import Any

from jaxrl_moe.envs import make_task
from jaxrl_moe.serving.envs.app import EnvService, make_app
from jaxrl_moe.serving.envs.sessions import NUMBERS, Sessions
from jaxrl_moe.serving.envs.wires import LONGEST_ACTION, WIRES
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.types import UserError
from tests.fuzz.reading import Damaged, broken, number, strict, text, truth, whole
from tests.fuzz.runner import Wrong
from tests.fuzz.targets.http import Answer, HttpTarget

WIN = "Thought:\nIt is a flower.\n\nAction:\ncraft 1 blue dye using 1 flower"
BODIES: dict[str, tuple[dict[str, Any], ...]] = {
    "/create": ({}, {"minecraft_dir": "agentenv_textcraft/"}, {"goal": "blue dye"},
                {"commands": "craft 1 blue dye using 1 flower", "goal": "blue dye"}),
    "/reset": ({"data_idx": 0}, {"data_idx": 17, "recipes": "small"}),
    "/step": ({"action": "get 1 flower"}, {"action": WIN}, {"action": "Action: a\nAction: b"}),
    "/close": ({},)}
FOREIGN: tuple[dict[str, Any], ...] = (
    {"data_idx": -1}, {"data_idx": True}, {"data_idx": 1.0}, {"data_idx": "0"}, {"data_idx": 10**6},
    {"data_idx": 2**53}, {"data_idx": 10**30}, {"id": -1}, {"id": "0"}, {"id": None}, {"id": 2**53},
    {"id": 1e3}, {"action": ""}, {"action": None}, {"action": "\ud800"}, {"action": "\0"},
    {"action": "a" * LONGEST_ACTION},
    {"action": "a" * (LONGEST_ACTION + 1)}, {"action": "Action: " * 30000}, {"action": ["inventory"]},
    {"action": "get 99999999999999999999999 log"}, {"action": "craft 0 blue dye using 0 flower"},
    {"action": "get \u0663 flower"}, {"action": "Action:\nget -1 flower"}, {"recipes": "minecraft"},
    {"recipes": "\ud800"}, {"recipes": 3}, {"goal": "\ud800"}, {"goal": "x" * 100000},
    {"minecraft_dir": "/etc"}, {"commands": "x" * 100000}, {"world_type": "Text"}, {"env_idx": 0},
    {"reward": 1}, {"done": True})
PATHS = ("/", "/health", "/metrics", "/render", "/observation", "/observation?id=", "/observation?id=-1",
         "/observation?id=1&id=2", "/observation?id=%00", "/observation?id=1e3", "/observation?x=1", "//",
         "/docs", "/openapi.json", "/step/", "/STEP", "/step?id=1", "/step#x", "/create/../step",
         "/" + "a" * 3000)
RULES = {"id": whole(0, NUMBERS - 1), "data_idx": whole(0, NUMBERS - 1), "action": text, "recipes": text,
         "goal": text, "commands": text}
STATUSES = (200, 307, 401, 404, 405)  # 307: to the path without its last slash
READ = {"/create": {"commands", "goal", "minecraft_dir"}, "/reset": {"id", "data_idx", "recipes"},
        "/step": {"id", "action"}, "/close": {"id"}}
TOLD = {"/create": {"id": RULES["id"], "observation": text, "reward": number(0, 0)},
        "/reset": {"id": RULES["id"], "observation": text, "reward": number(0, 0), "done": truth},
        "/step": {"observation": text, "reward": number(0, 1), "done": truth}, "/close": {"closed": truth}}


class EnvCalls(HttpTarget):
    """Requests to a TextCraft server that has two sessions: one that they name, made anew for each, and one
    that somebody else plays."""
    name = "envs"
    loggers = (*HttpTarget.loggers, "jaxrl_moe.serving.envs.session", "jaxrl_moe.serving.envs.sessions")

    def prepare(self, inputs: pathlib.Path) -> None:
        (inputs / "notes.txt").write_text("nothing here is read")
        self.stack = contextlib.ExitStack()
        self.sessions = Sessions(make_task("textcraft(recipes='small')"), most=4)
        service = EnvService("textcraft", WIRES["textcraft"], self.sessions)
        self.server = self.stack.enter_context(HttpServer(service, make_app, api_key="key", grace=1))
        self.listen()
        self.own, _ = self.sessions.create({"id": 0})
        self.named, _ = self.sessions.create({"id": 0})
        self.request = self._ordinary(self.named)

    def close(self) -> None:
        self.deafen()
        self.stack.close()

    def _ordinary(self, session: int) -> tuple[str, str, bytes, dict[str, str]]:
        return "POST", "/step", json.dumps({"id": session, "action": "get 1 flower"}).encode(), {}

    def mutate(self, rng: random.Random, inputs: pathlib.Path):
        path = rng.choice(list(BODIES))
        body = rng.choice(BODIES[path])
        if path != "/create":
            body = {"id": self.named} | body
        odd = (path, path, path + "/", f"/observation?id={self.named}", *PATHS)
        return {}, self.mutated(rng, path, body, FOREIGN, lambda: odd, share=0.35)

    def call(self, arena):
        self.caught.error = None
        answer = self.send(self.server.url, *self.request)
        if self.caught.error is not None:
            raise self.caught.error
        if answer[0] not in STATUSES and answer[1] != "closed" and not of_uvicorn(answer):
            raise Wrong(f"status {answer[0]}", str(answer[2][:300]))
        self._forget(answer)
        status, _, body = self.send(self.server.url, *self._ordinary(self.own))
        if status != 200 or strict(body).get("observation") != "Got 1 flower":
            raise Wrong("the game of another session is not as it was", f"{status} {body[:200]!r}")
        return answer

    def _forget(self, answer: Answer) -> None:
        """Ends the session that was named and the one that an answer tells of; then there must be no other
        but one's own."""
        told = [self.named]
        with contextlib.suppress(Damaged, TypeError, KeyError):
            told += [strict(answer[2])["id"]] if self.request[1] == "/create" else []
        for session in told:
            with contextlib.suppress(UserError):  # it was closed
                self.sessions.end(session)
        self.named, _ = self.sessions.create({"id": 0})
        if (self.sessions.open, self.sessions.held) != (2, 2):
            raise Wrong("a session was leaked", f"{self.sessions.open} open, {self.sessions.held} held")

    def judge(self, arena, result):
        status, kind, body = result
        method, path, data, headers = self.request
        if kind == "closed" or method == "HEAD" or of_uvicorn(result) or path in ("/docs", "/openapi.json"):
            return ""
        if status == 307 or path == "/metrics" and kind.startswith("text/plain"):
            return ""
        try:
            answer = strict(body)
        except Damaged as error:
            return f"an answer that is no JSON: {status} {kind} {body[:200]!r} {error}"
        if isinstance(answer, dict) and "error" in answer:
            return misshapen(answer)
        if status != 200:
            return f"a refusal of another shape: {status} {body[:200]!r}"
        return _answered(path, data, answer) if method == "POST" and path in READ else ""


def of_uvicorn(answer: Answer) -> bool:
    """Whether the request did not get as far as the application."""
    return answer[1].startswith("text/plain") and b"Invalid HTTP request" in answer[2]


def misshapen(answer: dict[str, Any]) -> str:
    """What is wrong with a refusal."""
    said = answer["error"]
    if list(answer) != ["error"] or not isinstance(said, str) or not said.strip():
        return f"a refusal of another shape: {str(answer)[:300]}"
    if "Traceback" in said or "\n" in said or not said.endswith("."):
        return f"a refusal that is no sentence: {said[:300]!r}"
    return "" if len(said) < 3000 else f"an endless refusal: {len(said)} characters"


def _answered(path: str, data: bytes, answer: Any) -> str:
    """What is wrong with an answer, or with the body that was taken."""
    try:
        sent = strict(data)
    except Damaged as error:
        return f"a damaged body was answered: {error}"
    if not isinstance(sent, dict) or sent.keys() - READ[path]:
        return f"a body with what nothing reads was taken: {str(sent)[:200]}"
    wrong = broken(sent, RULES) or broken(answer, TOLD[path])
    lacking = TOLD[path].keys() - answer.keys()
    return wrong or (f"an answer without {sorted(lacking)}" if lacking else "")


TARGETS = (EnvCalls,)
