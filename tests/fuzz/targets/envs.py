"""Calls of environment servers: never a server's error, no session that nobody knows of, and a game that
somebody else plays meanwhile goes on as it stood."""
import contextlib
import json
import pathlib
import random
from typing import Any, ClassVar

from jaxrl_moe.envs import make_task
from jaxrl_moe.serving.envs.app import EnvService, make_app
from jaxrl_moe.serving.envs.sessions import NUMBERS, Sessions
from jaxrl_moe.serving.envs.wires import LONGEST_ACTION, WIRES
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.types import UserError
from tests.fuzz.reading import Damaged, broken, number, strict, text, texts, truth, whole
from tests.fuzz.runner import Wrong
from tests.fuzz.targets.http import Answer, HttpTarget
from tests.fuzz.targets.plain_refusals import PlainRefusals
from tests.helpers.env_servers import number_of, spelled

WIN = "Thought:\nIt is a flower.\n\nAction:\ncraft 1 blue dye using 1 flower"
# as textcraft spells them; other formats by tests.helpers.env_servers.spelled
BODIES: dict[str, tuple[dict[str, Any], ...]] = {
    "/create": ({}, {"minecraft_dir": "agentenv_textcraft/"}, {"goal": "blue dye"},
                {"commands": "craft 1 blue dye using 1 flower", "goal": "blue dye"}),
    "/reset": ({"data_idx": 0}, {"data_idx": 17, "recipes": "small"}),
    "/step": ({"action": "get 1 flower"}, {"action": WIN}, {"action": "Action: a\nAction: b"},
              {"action": "Action:\n0"}),
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
    {"minecraft_dir": "/etc"}, {"commands": "x" * 100000}, {"world_type": "Text"}, {"world_type": "Embody"},
    {"world_type": None}, {"env_idx": 0}, {"env_idx": -1}, {"env_idx": "0"}, {"session_id": None},
    {"session_id": 2**53}, {"game": -1}, {"game": 1.5}, {"reward": 1}, {"done": True})
QUERIES = ("", "?ID=", "?ID=-1", "?ID=1&ID=2", "?ID=%00", "?ID=1e3", "?x=1", "?ID=" + "9" * 5000)
PATHS = ("/", "/health", "/metrics", "/render", "/detail", "/state", "/list_envs", "/goals", "//", "/docs",
         "/openapi.json", "/step/", "/STEP", "/step?id=1", "/step#x", "/create/../step",
         "/" + "a" * 3000)
NUMBER = whole(0, NUMBERS - 1)
RULES = {"id": NUMBER, "env_idx": NUMBER, "data_idx": NUMBER, "game": NUMBER, "session_id": NUMBER,
         "action": text, "recipes": text, "goal": text, "commands": text,
         "world_type": lambda value: value == "Text"}
STEP = {"observation": text, "reward": number(0, 1), "done": truth}
BEGUN = {"observation": text, "reward": number(0, 0), "done": truth}
ACTIONS = {"available_actions": texts}
# {format: {path: what an answer tells}}
TOLD: dict[str, dict[str, Any]] = {
    "textcraft": {"/create": {"id": NUMBER} | BEGUN, "/reset": {"id": NUMBER} | BEGUN, "/step": STEP},
    "babyai": {"/create": {"id": NUMBER}, "/reset": BEGUN | {"score": number(0, 0)},
               "/step": STEP | {"score": number(0)}},
    "alfworld": {"/create": {"id": NUMBER}, "/step": STEP | ACTIONS,
                 "/reset": {"id": NUMBER, "observation": text, "task_type": text} | ACTIONS},
    "sciworld": {"/create": {"id": NUMBER},
                 "/step": STEP | {"reward": number(-100, 100), "score": number(-100)},
                 "/reset": BEGUN | {"task_description": text, "score": number(0, 0)}},
    "webshop": {"/step": {"state": text, "reward": number(0, 1), "done": truth}}}


class EnvCalls(PlainRefusals):
    """Requests to an environment server that has two sessions: one that they name, made anew for each, and
    one that somebody else plays.

    Attributes:
      wire: as which it is served.
      task: the environment, as in env.name.
      look: an action that changes nothing.
    """
    name = "envs"
    wire: ClassVar[str] = "textcraft"
    task: ClassVar[str] = "textcraft(recipes='small')"
    look: ClassVar[str] = "get 1 flower"
    loggers = (*HttpTarget.loggers, "jaxrl_moe.serving.envs.session", "jaxrl_moe.serving.envs.sessions")

    def prepare(self, inputs: pathlib.Path) -> None:
        (inputs / "notes.txt").write_text("nothing here is read")
        self.stack = contextlib.ExitStack()
        wire = WIRES[self.wire]
        self.sessions = Sessions(make_task(self.task), most=4, tells=wire.tells)
        self.read = {"/reset": wire.reset_body, "/step": wire.step_body, "/close": wire.close_body}
        self.read |= {} if wire.create_body is None else {"/create": wire.create_body}
        service = EnvService(self.wire, wire, self.sessions)
        self.server = self.stack.enter_context(HttpServer(service, make_app, api_key="key", grace=1))
        self.listen()
        self.own, _ = self.sessions.create({"id": 0})
        self.named, _ = self.sessions.create({"id": 0})
        self.request = self._ordinary(self.own)
        self.before = self._seen()

    def close(self) -> None:
        self.deafen()
        self.stack.close()

    def _ordinary(self, session: int) -> tuple[str, str, bytes, dict[str, str]]:
        body = spelled(self.wire, {"id": session, "action": self.look})
        return "POST", "/step", json.dumps(body).encode(), {}

    def _seen(self) -> tuple[int, Any]:
        """(status, observation) of the game that somebody else plays."""
        status, _, body = self.send(self.server.url, *self._ordinary(self.own))
        answer = strict(body)
        return status, answer.get("observation", answer.get("state"))

    def mutate(self, rng: random.Random, inputs: pathlib.Path):
        path = rng.choice(list(BODIES))
        body = rng.choice(BODIES[path])
        if path != "/create":
            body = {"id": self.named} | body
        wire = WIRES[self.wire]
        looks = [look + query for look in wire.looks for query in (*QUERIES, f"?ID={self.named}")]
        odd = [each.replace("ID", wire.session) for each in rng.sample(looks, 3)]
        return {}, self.mutated(rng, path, spelled(self.wire, body), FOREIGN,
                                lambda: (path, path, path + "/", *odd, *PATHS), share=0.35)

    def call(self, arena):
        answer = self.answered(self.server.url)
        self._forget(answer)
        seen = self._seen()
        if seen != self.before:
            raise Wrong("the game of another session is not as it was", str(seen)[:300])
        return answer

    def _forget(self, answer: Answer) -> None:
        """Ends the session that was named and the one that an answer tells of; then there must be no other
        but one's own."""
        told = [self.named]
        with contextlib.suppress(Damaged, TypeError, KeyError):
            told += [number_of(strict(answer[2]))] if self.request[1] == "/create" else []
        for session in told:
            with contextlib.suppress(UserError):  # it was closed
                self.sessions.end(session)
        self.named, _ = self.sessions.create({"id": 0})
        if (self.sessions.open, self.sessions.held) != (2, 2):
            raise Wrong("a session was leaked", f"{self.sessions.open} open, {self.sessions.held} held")

    def judge_answer(self, method: str, path: str, data: bytes, answer: Any) -> str:
        if method != "POST" or path not in ("/create", "/reset", "/step", "/close"):
            return ""
        return self._taken(path, data) or self._told(path, answer)

    def _taken(self, path: str, data: bytes) -> str:
        """What is wrong with a body that was taken."""
        if path not in self.read:
            return ""  # a /create that reads none
        try:
            sent = strict(data)
        except Damaged as error:
            return f"a damaged body was answered: {error}"
        if not isinstance(sent, dict) or sent.keys() - self.read[path].model_fields.keys():
            return f"a body with what nothing reads was taken: {str(sent)[:200]}"
        return broken(sent, RULES)

    def _told(self, path: str, answer: Any) -> str:
        """What is wrong with an answer."""
        if self.wire == "webshop" and path in ("/create", "/reset"):
            fits = NUMBER(answer) if path == "/create" else type(answer) is list and list(map(
                type, answer)) == [str, type(None)]
            return "" if fits else f"an answer of another shape: {str(answer)[:200]}"
        rules = {"closed": truth} if path == "/close" else TOLD[self.wire][path]
        lacking = rules.keys() - answer.keys()
        return broken(answer, rules) or (f"an answer without {sorted(lacking)}" if lacking else "")


class BabyCalls(EnvCalls):
    """As babyai."""
    name = "envs_babyai"
    wire = "babyai"
    task = "babyai"
    look = "check available actions"


class HouseCalls(EnvCalls):
    """As alfworld."""
    name = "envs_alfworld"
    wire = "alfworld"
    task = "tests.helpers.games:Guessing(kind='alfworld')"
    look = "99"


class ScienceCalls(EnvCalls):
    """As sciworld."""
    name = "envs_sciworld"
    wire = "sciworld"
    task = "tests.helpers.games:Guessing(kind='sciworld')"
    look = "99"


class ShopCalls(EnvCalls):
    """As webshop."""
    name = "envs_webshop"
    wire = "webshop"
    task = "tests.helpers.games:Guessing(kind='webshop')"
    look = "99"


TARGETS = (EnvCalls, BabyCalls, HouseCalls, ScienceCalls, ShopCalls)
