"""The HTTP application of a judge server."""
from typing import Annotated

from fastapi import FastAPI, Header, Query, Request
from starlette.responses import PlainTextResponse

from jaxrl_moe import __version__
from jaxrl_moe.judges.client import CLIENT
from jaxrl_moe.serving.http.bodies import add_json_bodies
from jaxrl_moe.serving.http.errors import JsonAnswer, add_handlers
from jaxrl_moe.serving.http.gate import Gate
from jaxrl_moe.serving.http.metrics import metric
from jaxrl_moe.serving.judges.bodies import ScoreBody
from jaxrl_moe.serving.judges.service import JudgeService

MOST_WAIT = 60.0  # seconds that a client may have a call held

Wait = Annotated[float, Query(ge=0, le=MOST_WAIT)]
Client = Annotated[str, Header(alias=CLIENT, max_length=64, description="a name of the client's own, as "
                               "random hex: what it drops is kept for others that wait")]


def make_app(service: JudgeService, api_key: str = "") -> Gate:
    """The ASGI application of a judge server, behind its gate.

    Args:
      api_key: asked of every request but /health.
    """
    app = FastAPI(title="jaxrl_moe: judges", version=__version__)
    add_handlers(app)
    add_json_bodies(app)

    @app.post("/api/judge/v1/score")
    async def score(request: Request, body: ScoreBody, wait: Wait | None = None, client: Client = ""):
        return JsonAnswer(await service.score(body, wait, request.is_disconnected, client))

    @app.get("/api/judge/v1/items/{item}")
    async def item(request: Request, item: str, wait: Wait = 0.0, client: Client = ""):
        return JsonAnswer(await service.item(item, wait, request.is_disconnected, client))

    @app.delete("/api/judge/v1/items/{item}")
    async def drop(item: str, client: Client = ""):
        return JsonAnswer(await service.drop(item, client))

    @app.get("/health")
    async def health():
        models = {provider: [name for name in judges if name] for provider, judges in service.judges.items()}
        return JsonAnswer({"status": "ok", "providers": list(service.judges), "models": models,
                           "rubrics": list(service.rubrics), "held": service.held})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus():
        return PlainTextResponse(exposition(service), media_type="text/plain; version=0.0.4")
    return Gate(app, api_key, query=("wait",), own_names=True)


def exposition(service: JudgeService) -> str:
    """The server's numbers in Prometheus' text format."""
    answers = {f'{{provider="{provider}",status="{status}"}}': count
               for (provider, status), count in sorted(service.answers.items())}
    lines = [*metric("judge_answers_total", "counter", "answers about works, by status", answers),
             *metric("judge_calls_held", "gauge", "calls that wait for verdicts", {"": service.held})]
    return "\n".join(lines) + "\n"
