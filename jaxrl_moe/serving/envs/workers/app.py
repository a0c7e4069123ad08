"""The HTTP application before the workers: a request goes to the worker that its session is of, and its
answer back."""
import asyncio
import re
import urllib.parse

from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response

from jaxrl_moe.outside import OutsideError, parse
from jaxrl_moe.serving.envs.app import ENDING, agentgym_error, gated
from jaxrl_moe.serving.envs.sessions import NUMBERS
from jaxrl_moe.serving.envs.workers.pool import Gone, Workers
from jaxrl_moe.serving.envs.workers.worker import Worker
from jaxrl_moe.serving.http.bodies import GONE, whole_body
from jaxrl_moe.serving.http.errors import JsonAnswer, Refusal, add_handlers
from jaxrl_moe.serving.http.gate import Gate
from jaxrl_moe.serving.http.gone import unless_gone
from jaxrl_moe.types import UserError

LARGEST = 2**21  # bytes of a body that can name a session: larger ones hold more than an action may
_NUMBER = re.compile("[0-9]{1,16}")  # of a session
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
TO_WORKERS = (b"content-type", b"content-encoding", b"host", b"accept")  # Host is in redirects to a path
FROM_WORKERS = ("content-type", "location", "allow")


def make_app(workers: Workers, api_key: str = "") -> Gate:
    """The ASGI application of several workers, behind the same gate as that of one process."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)  # the workers have these
    add_handlers(app, agentgym_error)

    @app.get("/health")
    async def health():
        shares = (await workers.shares()).values()
        return JsonAnswer({"status": "ok", "env": workers.name, "sessions": sum(each.open for each in shares),
                           "held": sum(each.held for each in shares),
                           "most": sum(each.most for each in shares), "workers": workers.alive})

    @app.get("/metrics")
    async def metrics():
        return PlainTextResponse(await workers.metrics(), media_type="text/plain; version=0.0.4")

    @app.api_route("/{path:path}", methods=METHODS)
    async def passed(request: Request):
        return await _passed(workers, request)
    return gated(app, workers.wire, api_key)


async def _passed(workers: Workers, request: Request) -> Response:
    """A worker's answer to a request."""
    try:
        body = await whole_body(request)
    except ClientDisconnect:
        return Response(status_code=GONE)
    if request.url.path == "/create":
        worker = await workers.roomiest()
        worker.creating += 1
        try:
            return await _heard(workers, worker, request, body)
        finally:
            worker.creating -= 1
            worker.created += 1
    session = await _session(workers.wire.session, request, body)
    worker = workers.any() if session is None else workers.holder(session)
    return await _heard(workers, worker, request, body)


async def _session(name: str, request: Request, body: bytes) -> int | None:
    """The session that a request names; None: it names none, which a worker tells as one process does."""
    given = urllib.parse.parse_qs(request.url.query).get(name)
    if given:
        return int(given[-1]) if _NUMBER.fullmatch(given[-1]) else None
    if not 0 < len(body) <= LARGEST:
        return None
    try:
        value = await asyncio.to_thread(parse, body, "the body")
    except (OutsideError, UnicodeDecodeError):
        return None
    number = value.get(name) if isinstance(value, dict) else None
    return number if type(number) is int and 0 <= number < NUMBERS else None


async def _heard(workers: Workers, worker: Worker, request: Request, body: bytes) -> Response:
    """The answer, as long as the client waits for it: else the call is broken off, as the client did."""
    try:
        answer = await unless_gone(_answer(workers, worker, request, body), request)
    except asyncio.CancelledError as error:  # after the grace that calls have at the server's end
        raise Refusal(503, ENDING) from error
    return Response(status_code=GONE) if answer is None else answer


async def _answer(workers: Workers, worker: Worker, request: Request, body: bytes) -> Response:
    path = request.scope["raw_path"].decode("ascii", "replace")
    query = request.scope["query_string"].decode("latin-1")
    if not {".", ".."}.isdisjoint(path.split("/")):  # which the worker would not see as they are
        raise Refusal(404, "Not Found")
    headers = [(name, value) for name, value in request.scope["headers"] if name in TO_WORKERS]
    try:
        answer = await workers.ask(worker, request.method, f"{path}?{query}" if query else path, body=body,
                                   headers=headers)
    except Gone as error:
        raise UserError("The worker that was asked has ended, and its sessions with it; another is being "
                        "started: create another session.") from error
    passed = {name: answer.headers[name] for name in FROM_WORKERS if name in answer.headers}
    return Response(answer.content, answer.status_code, passed)
