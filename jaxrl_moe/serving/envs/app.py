"""The HTTP application of an environment server: AgentGym's routes, health and metrics."""
import asyncio
import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import PlainTextResponse

from jaxrl_moe import __version__
from jaxrl_moe.serving.envs.session import Shown
from jaxrl_moe.serving.envs.sessions import NUMBERS, Sessions
from jaxrl_moe.serving.envs.wires import Wire
from jaxrl_moe.serving.http.bodies import add_json_bodies
from jaxrl_moe.serving.http.errors import LONGEST, JsonAnswer, Refusal, add_handlers
from jaxrl_moe.serving.http.gate import Gate
from jaxrl_moe.serving.http.metrics import labelled, metric
from jaxrl_moe.serving.rollouts import routes as rollout_routes
from jaxrl_moe.serving.rollouts.rollouts import Rollouts
from jaxrl_moe.spelling import cut
from jaxrl_moe.types import UserError

NO_SESSION = (401, 403, 404, 405)  # statuses that keep their number: what was asked reached no session
ENDING = "The server is ending, and the environment does not answer."


@dataclasses.dataclass
class EnvService:
    """What an environment server serves.

    Attributes:
      name: of the environment.
      wire: how its sessions look on the wire.
      sessions: closed with the server.
      rollouts: the episodes that it plays itself; None: it plays none.
      calls: {(path, outcome): how many}, counted by the event loop's thread.
      seconds: that these took.
    """
    name: str
    wire: Wire
    sessions: Sessions
    rollouts: Rollouts | None = None
    calls: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=collections.Counter)
    seconds: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=collections.Counter)

    def close(self) -> None:
        self.sessions.close()

    async def create(self, request: Request, *row: Mapping[str, Any]) -> tuple[int, Shown | None]:
        """A new session, which ends where its client has not waited for it: nobody else knows its number."""
        made = await self.ask("/create", self.sessions.create, *row)
        if await request.is_disconnected():
            await self._in_thread(self.sessions.end, made[0], "unheard")
        return made

    async def ask(self, path: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """Makes a call of the sessions in a thread of theirs, and counts it."""
        with self._counted(path):
            try:
                return await self._in_thread(call, *arguments)
            except asyncio.CancelledError as error:  # after the grace that calls have at the server's end
                raise Refusal(503, ENDING) from error

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.sessions.pool, call, *arguments)

    @contextlib.contextmanager
    def _counted(self, path: str) -> Iterator[None]:
        began = time.monotonic()
        outcome = "failed"
        try:
            yield
            outcome = "answered"
        except UserError:
            outcome = "refused"
            raise
        finally:
            self.calls[path, outcome] += 1
            self.seconds[path, outcome] += time.monotonic() - began


def agentgym_error(status: int, message: str, param: str | None = None, code: str | None = None,
                   headers: Mapping[str, str] | None = None) -> JsonAnswer:
    """An error as AgentGym's clients read it: status 200 and a sentence."""
    sentence = cut(message, LONGEST)
    sentence += "." * (not sentence.endswith("."))
    return JsonAnswer({"error": sentence}, status if status in NO_SESSION else 200, headers=headers)


def make_app(service: EnvService, api_key: str = "") -> Gate:
    """The ASGI application of an environment server, behind its gate.

    Args:
      api_key: asked of every request but / and /health.
    """
    app = FastAPI(title=f"jaxrl_moe: {service.name}", version=__version__)
    add_handlers(app, agentgym_error)
    add_json_bodies(app)
    _add_create(app, service)
    _add_calls(app, service)
    _add_state(app, service)
    if service.rollouts is not None:
        rollout_routes.add_rollouts(app, service.rollouts)
    for path, why in service.wire.unserved.items():
        app.add_api_route(path, _refusing(why), methods=["GET", "POST"])
    return gated(app, service.wire, api_key)


def gated(app: Any, wire: Wire, api_key: str) -> Gate:
    """The application behind the gate of environment servers."""
    return Gate(app, api_key, query=(wire.session,), open_paths=("/", "/health"), own_names=True,
                shape=agentgym_error)


def _add_create(app: FastAPI, service: EnvService) -> None:
    wire = service.wire
    if wire.create_body is None:
        @app.post("/create")
        async def create(request: Request):
            await request.body()  # whatever it holds; what comes after it is the client's end
            number, _ = await service.create(request)
            return JsonAnswer(wire.created(number))
        return

    @app.post("/create")
    async def create_and_begin(request: Request, body: wire.create_body):
        number, shown = await service.create(request, body.row())
        return JsonAnswer(wire.reset(number, shown))


def _add_calls(app: FastAPI, service: EnvService) -> None:
    wire = service.wire
    sessions = service.sessions

    @app.post("/reset")
    async def reset(body: wire.reset_body):
        shown = await service.ask("/reset", sessions.reset, body.session, body.row())
        return JsonAnswer(wire.reset(body.session, shown))

    @app.post("/step")
    async def step(body: wire.step_body):
        shown = await service.ask("/step", sessions.step, body.session, body.action)
        return JsonAnswer(wire.step(body.session, shown))

    @app.post("/close")
    async def close(body: wire.close_body):
        await service.ask("/close", sessions.end, body.session)
        return JsonAnswer({"closed": True})

    for path, show in wire.looks.items():
        app.add_api_route(path, _looking(service, path, show), methods=["GET"])


def _looking(service: EnvService, path: str, show: Callable[[Shown], Any]) -> Callable[..., Any]:
    """Answers with some of what a session's last call showed."""
    async def look(number: Annotated[int, Query(alias=service.wire.session, ge=0, lt=NUMBERS)]):
        return JsonAnswer(show(await service.ask(path, service.sessions.look, number)))
    return look


def _add_state(app: FastAPI, service: EnvService) -> None:
    @app.get("/")
    async def hello():
        return JsonAnswer(service.wire.hello or f"This is environment {service.name}.")

    @app.get("/health")
    async def health():
        sessions = service.sessions
        return JsonAnswer({"status": "ok", "env": service.name, "sessions": sessions.open,
                           "held": sessions.held, "most": sessions.most})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus():
        return PlainTextResponse(exposition(service), media_type="text/plain; version=0.0.4")


def _refusing(why: str) -> Callable[[], Any]:
    async def refuse():
        raise Refusal(501, why)
    return refuse


def exposition(service: EnvService) -> str:
    """The server's numbers in Prometheus' text format."""
    sessions = service.sessions
    ended = {f'{{why="{why}"}}': count for why, count in sorted(sessions.ended.items())}
    lines = [*metric("env_calls_total", "counter", "calls of sessions that ended, by outcome",
                     labelled(service.calls)),
             *metric("env_call_seconds_total", "counter", "seconds that these calls took",
                     labelled(service.seconds)),
             *metric("env_sessions", "gauge", "sessions that are open", {"": sessions.open}),
             *metric("env_sessions_held", "gauge", "sessions that are open, or still have a call at work",
                     {"": sessions.held}),
             *metric("env_sessions_most", "gauge", "sessions that there is room for", {"": sessions.most}),
             *metric("env_sessions_ended_total", "counter", "sessions that ended, by why", ended)]
    if service.rollouts is not None:
        lines += rollout_routes.exposition(service.rollouts)
    return "\n".join(lines) + "\n"
