"""The HTTP application of a task app."""
import dataclasses
import functools
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import PlainTextResponse, Response

from jaxrl_moe import __version__
from jaxrl_moe.serving.http.bodies import GONE, add_json_bodies
from jaxrl_moe.serving.http.errors import JsonAnswer, add_handlers
from jaxrl_moe.serving.http.gate import Gate
from jaxrl_moe.serving.http.gone import gone
from jaxrl_moe.serving.http.metrics import metric
from jaxrl_moe.serving.tasks.bodies import RolloutRequest, RolloutResponse
from jaxrl_moe.serving.tasks.judging import Judging
from jaxrl_moe.serving.tasks.keys import OPEN_PATHS, KeyGate, TaskKeys
from jaxrl_moe.serving.tasks.play import Player
from jaxrl_moe.serving.tasks.rollouts import Rollouts
from jaxrl_moe.serving.tasks.task import AppTask
from jaxrl_moe.serving.tasks.told import instance_info, service_info, taskset_info

MOST_SEEDS = 256  # that /task_info answers at once
MOST_SEED = 2**53


@dataclasses.dataclass
class TaskAppService:
    """What a task app serves.

    Attributes:
      player: of its rollouts.
      rollouts: ended with the server.
      keys: that open it.
    """
    player: Player
    rollouts: Rollouts
    keys: TaskKeys

    @property
    def task(self) -> AppTask:
        return self.player.task

    @property
    def judging(self) -> Judging:
        return self.player.judging

    def close(self) -> None:
        self.rollouts.close()


def make_app(service: TaskAppService, _: str = "") -> KeyGate:
    """The ASGI application of a task app, behind its gate; the service has the keys."""
    app = FastAPI(title=f"jaxrl_moe: {service.task.name}", version=__version__)
    add_handlers(app)
    add_json_bodies(app)
    _add_state(app, service)
    _add_info(app, service)
    _add_rollout(app, service)
    return KeyGate(Gate(app, query=("seed", "seeds"), open_paths=OPEN_PATHS), service.keys)


def _add_state(app: FastAPI, service: TaskAppService) -> None:
    @app.get("/")
    @app.head("/", include_in_schema=False)
    async def hello():
        return JsonAnswer({"status": "ok", "service": service.task.name})

    @app.get("/health")
    async def health():
        return JsonAnswer({"healthy": True, "auth": {"required": True,
                                                     "expected_prefix": service.keys.prefix}})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus():
        return PlainTextResponse(exposition(service.rollouts), media_type="text/plain; version=0.0.4")


def _add_info(app: FastAPI, service: TaskAppService) -> None:
    @app.get("/info")
    async def info():
        return JsonAnswer(service_info(service.task, service.judging, service.rollouts))

    Seeds = Annotated[list[Annotated[int, Query(ge=0, lt=MOST_SEED)]], Query(max_length=MOST_SEEDS)]

    @app.get("/task_info")
    async def task_info(seed: Seeds = (), seeds: Seeds = ()):
        told: list[dict[str, Any]] = [instance_info(service.task, service.judging, service.rollouts, each)
                                      for each in [*seed, *seeds]]
        if not told:
            return JsonAnswer(taskset_info(service.task))
        return JsonAnswer(told if len(told) > 1 else told[0])


def _add_rollout(app: FastAPI, service: TaskAppService) -> None:
    @app.post("/rollout", response_model=RolloutResponse)
    async def rollout(request: Request, body: RolloutRequest):
        service.player.check(body)  # what cannot be played takes no turn of a thread
        answer = await service.rollouts.answer(body, functools.partial(gone, request))
        if answer is None:
            return Response(status_code=GONE)
        return Response(answer, media_type="application/json")


def exposition(rollouts: Rollouts) -> str:
    """The server's numbers in Prometheus' text format."""
    ended = {f'{{how="{how}"}}': count for how, count in sorted(rollouts.ended.items())}
    lines = [*metric("task_rollouts", "gauge", "rollouts at work or waiting", {"": rollouts.held}),
             *metric("task_rollouts_at_once", "gauge", "rollouts that can be at work", {"": rollouts.most}),
             *metric("task_rollouts_ended_total", "counter", "rollouts that ended, by how", ended)]
    return "\n".join(lines) + "\n"
