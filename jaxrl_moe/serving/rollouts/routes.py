"""The route of POST /rollouts, and what /metrics tells of it."""
import asyncio
from collections.abc import Iterator

from fastapi import FastAPI, Request
from starlette.responses import Response

from jaxrl_moe.serving.http.bodies import GONE
from jaxrl_moe.serving.http.errors import Refusal
from jaxrl_moe.serving.http.gone import unless_gone
from jaxrl_moe.serving.http.metrics import metric
from jaxrl_moe.serving.rollouts.bodies import RolloutsBody
from jaxrl_moe.serving.rollouts.rollouts import Rollouts


def add_rollouts(app: FastAPI, rollouts: Rollouts) -> None:
    """Adds the route."""
    @app.post("/rollouts")
    async def play(body: RolloutsBody, request: Request):
        try:
            answer = await unless_gone(rollouts.answer(body), request)
        except asyncio.CancelledError as error:  # after the grace that calls have at the server's end
            raise Refusal(503, "The server is ending, and the episodes are not played.") from error
        if answer is None:
            return Response(status_code=GONE)
        return Response(answer, media_type="application/json")


def exposition(rollouts: Rollouts) -> Iterator[str]:
    """Its numbers in Prometheus' text format."""
    ended = {f'{{how="{how}"}}': count for how, count in sorted(rollouts.ended.items())}
    yield from metric("env_rollouts", "gauge", "episodes that this server plays itself, those included that "
                      "wait for their turn", {"": rollouts.held})
    yield from metric("env_rollouts_at_once", "gauge", "of them that can be at work", {"": rollouts.most})
    yield from metric("env_rollouts_ended_total", "counter", "of them that ended, by how", ended)
