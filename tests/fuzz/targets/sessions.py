"""Requests to the sessions of agents: never a server's error; what was refused leaves the session as it was,
and no call stays open."""
import functools
import json
import random
from collections.abc import Callable
from typing import Any

from jaxrl_moe.rollout.agents.session import AgentSession, SessionError
from jaxrl_moe.rollout.agents.sessions import AgentSessions
from jaxrl_moe.serving.openai.app import make_app
from jaxrl_moe.serving.openai.service import Service
from jaxrl_moe.serving.sessions.calls import SessionCalls
from jaxrl_moe.serving.sessions.routes import SECRET_PATHS, add_sessions
from tests.fuzz.reading import Damaged, strict
from tests.fuzz.runner import Wrong
from tests.fuzz.targets.serving import CHAT, FOREIGN, TOOL, HttpBodies, misshapen
from tests.helpers.session_plans import plan

CALLS = "/sessions/ID/v1/"
FINISH = "/sessions/ID/finish"
ANSWERED = {"role": "assistant", "content": "Let me see.", "tool_calls": [
    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]}
BODIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/sessions", {"wait": 0.0}),
    (FINISH, {"reward": 1.0, "info": {"correct": 1.0}}), (FINISH, {"error": "the browser is gone"}),
    (CALLS + "chat/completions", CHAT | {"max_tokens": 40, "tools": [TOOL]}),
    (CALLS + "chat/completions", CHAT | {"stream": True, "temperature": 1.0, "stop": "18"}),
    (CALLS + "chat/completions", {"model": "tiny", "messages": [
        {"role": "user", "content": "Hi."}, ANSWERED,
        {"role": "tool", "content": "2", "tool_call_id": "c1"}]}),
    (CALLS + "completions", {"model": "tiny", "prompt": "Hi. Let me see", "max_tokens": 40}),
    (CALLS + "completions", {"model": "tiny", "prompt": [5, 17], "stream": True}))
OUTCOMES: tuple[dict[str, Any], ...] = (
    {"reward": 1e39}, {"reward": True}, {"reward": "1"}, {"reward": None}, {"reward": 10**400}, {"error": ""},
    {"error": "\ud800"}, {"error": "x" * 3000}, {"info": {"a b": 1}}, {"info": {"a": None}}, {"info": []},
    {"info": {f"n{number}": 1.0 for number in range(100)}}, {"wait": -1}, {"wait": "0"}, {"wait": 601},
    {"wait": True})
NUMBERS = ("0" * 32, "ID0", "id", "%00", "..", "A" * 32, "x" * 3000, "ID/v1", "%2e%2e", "")


class SessionRequests(HttpBodies):
    """Requests to sessions, one that is open for each input."""
    name = "sessions"
    share = 0.8

    def app(self) -> Callable[[Service, str], Any]:
        self.sessions = AgentSessions()
        add = functools.partial(add_sessions, calls=SessionCalls(self.service, self.sessions, "append"))
        return functools.partial(make_app, add=add, secret_paths=SECRET_PATHS)

    def mutate(self, rng: random.Random, inputs: Any):
        path, body = rng.choice(BODIES)

        def odd() -> tuple[str, ...]:
            other = path.replace("ID", rng.choice(NUMBERS))
            return path, other, other, path + "/"
        return {}, self.mutated(rng, path, body, FOREIGN + OUTCOMES, odd)

    def call(self, arena):
        self.caught.error = None
        session = self.sessions.open(plan(longest=200))
        self.sessions.offer(session)
        try:
            return self._answer(session)
        finally:
            self.sessions.end(session, "it was tried")

    def _answer(self, session: AgentSession):
        method, path, data, headers = self.request
        answer = self.send(self.server.url, method, path.replace("ID", session.id), data, headers)
        if answer[0] >= 500 and not (answer[0] == 503 and path == "/sessions"):
            if self.caught.error is not None:
                raise self.caught.error
            raise Wrong(f"status {answer[0]}", str(answer[2][:300]))
        if session.id.encode() in answer[2] and path != "/sessions" and not path.startswith(FINISH):
            raise Wrong("an answer tells the session's id", str(answer[2][:300]))
        self._check(session, finished=path == FINISH and answer[0] == 200)
        return answer

    def _check(self, session: AgentSession, finished: bool) -> None:
        """The session takes an ordinary call, unless it was finished, and holds none open."""
        body = json.dumps({"model": "tiny", "prompt": "Hi.", "max_tokens": 4}).encode()
        path = f"/sessions/{session.id}/v1/completions"
        status, _, said = self.send(self.server.url, "POST", path, body, {})
        if status != (410 if finished else 200):
            raise Wrong("the session's next call", f"{status} {said[:200]!r}")
        try:
            with self.sessions.using(session.id) as session:
                if not session.idle or self.service.in_flight:
                    raise Wrong("a call stays open", f"{self.service.in_flight} in flight")
        except SessionError:
            if not finished:
                raise

    def judge(self, arena, result):
        status, kind, body = result
        method, path, data, headers = self.request
        if kind == "closed" or method == "HEAD":
            return ""
        if status >= 400:
            return misshapen(status, kind, body)
        if method == "POST" and path in dict(BODIES):
            try:
                strict(data)
            except Damaged as error:
                return f"a damaged body was answered: {error}"
        return ""


TARGETS = (SessionRequests,)
