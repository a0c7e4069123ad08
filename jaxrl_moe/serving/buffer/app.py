"""The HTTP application of a rollout buffer: slime's routes, health and metrics."""
from typing import Annotated, Any

from fastapi import Body, FastAPI, Query, Request
from pydantic import ValidationError
from starlette.responses import PlainTextResponse, Response

from jaxrl_moe import __version__
from jaxrl_moe.outside import parse
from jaxrl_moe.serving.buffer.bodies import MOST_ITEMS, PeekBody, ReadBody, RolloutDataBody, StartBody
from jaxrl_moe.serving.buffer.file import FileFailed
from jaxrl_moe.serving.buffer.groups import NoSize
from jaxrl_moe.serving.buffer.playing import Busy
from jaxrl_moe.serving.buffer.service import BufferService
from jaxrl_moe.serving.buffer.store import WrittenBefore
from jaxrl_moe.serving.http.bodies import GONE, add_json_bodies, whole_body
from jaxrl_moe.serving.http.errors import JsonAnswer, Refusal, add_handlers, describe, openai_error
from jaxrl_moe.serving.http.gate import Gate
from jaxrl_moe.serving.http.metrics import metric

STATUSES = {FileFailed: 503, WrittenBefore: 409, NoSize: 409, Busy: 409}
OPEN_PATHS = ("/", "/health")

Count = Annotated[int, Query(ge=1, le=MOST_ITEMS)]


def make_app(service: BufferService, api_key: str = "") -> Gate:
    """The ASGI application of a rollout buffer, behind its gate.

    Args:
      api_key: asked of every request but / and /health.
    """
    app = FastAPI(title="jaxrl_moe: rollout buffer", version=__version__)
    add_handlers(app)
    for kind, status in STATUSES.items():
        app.add_exception_handler(kind, lambda _, error, status=status: openai_error(status, str(error)))
    add_json_bodies(app)
    _add_items(app, service)
    _add_state(app, service)

    @app.post("/start_rollout")
    async def start(body: StartBody):
        return JsonAnswer(await service.start(body))
    return Gate(app, api_key, query=("batch_size",), open_paths=OPEN_PATHS, own_names=True)


def _add_items(app: FastAPI, service: BufferService) -> None:
    @app.post("/buffer/write")
    async def write(body: Annotated[dict[str, Any], Body()]):
        return JsonAnswer(await service.write(body))

    @app.post("/buffer/read")
    async def read(request: Request, body: ReadBody):
        seconds = body.timeout if body.wait else 0.0
        answer = await service.read(body.batch_size, seconds, request.is_disconnected)
        return Response(status_code=GONE) if answer is None else JsonAnswer(answer)

    @app.post("/get_rollout_data")
    async def rollout_data(body: RolloutDataBody):
        return JsonAnswer(await service.rollout_data(body.batch_size))

    @app.get("/buffer/peek")
    async def peek(request: Request, batch_size: Count | None = None):
        given = await whole_body(request)  # slime's clients send one with a GET
        return JsonAnswer(await service.peek(batch_size or _peeked(given)))


def _peeked(body: bytes) -> int:
    """How many items a body asks for; 1 without any."""
    try:
        return PeekBody.model_validate(parse(body, "the body") if body else {}).batch_size
    except ValidationError as error:
        raise Refusal(400, describe(error.errors())[1]) from error


def _add_state(app: FastAPI, service: BufferService) -> None:
    @app.get("/buffer/stats")
    async def stats():
        return JsonAnswer(await service.stats())

    @app.get("/")
    async def hello():
        return JsonAnswer({"message": "Rollout Buffer Server is running"})

    @app.get("/health")
    async def health():
        stats = (await service.stats())["data"]["data"][0]
        return JsonAnswer({"status": "ok", "kind": "buffer", **stats})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus():
        stats = (await service.stats())["data"]["data"][0]
        return PlainTextResponse(exposition(stats), media_type="text/plain; version=0.0.4")


def exposition(stats: dict[str, Any]) -> str:
    """The server's numbers in Prometheus' text format."""
    states = {f'{{state="{state}"}}': stats[f"groups_{state}"] for state in ("open", "finished", "delivered",
                                                                            "dropped")}
    lines = [*metric("buffer_groups", "gauge", "groups, by what became of them", states),
             *metric("buffer_groups_timed_out_total", "counter", "groups that were not waited for any longer",
                     {"": stats["groups_timed_out"]}),
             *metric("buffer_items_written_total", "counter", "items written", {"": stats["total_written"]}),
             *metric("buffer_items_read_total", "counter", "items handed out", {"": stats["total_read"]})]
    return "\n".join(lines) + "\n"
