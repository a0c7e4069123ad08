"""The routes of sessions: POST /sessions and /sessions/<id>/finish, with the run's key, and
/sessions/<id>/v1, an OpenAI endpoint whose id is its key."""
import asyncio
import re
import time
from typing import Annotated

from fastapi import FastAPI, Request
from pydantic import Field, model_validator

from jaxrl_moe.rollout.agents.session import AgentSession, SessionPlan
from jaxrl_moe.serving.http.bodies import GONE, Strict
from jaxrl_moe.serving.http.errors import JsonAnswer, Refusal
from jaxrl_moe.serving.http.gone import unless_gone
from jaxrl_moe.serving.openai.app import answered
from jaxrl_moe.serving.openai.protocol import ChatRequest, CompletionRequest
from jaxrl_moe.serving.sessions.calls import SessionCalls, refusing
from jaxrl_moe.types import EnvError, Status, Step

SECRET_PATHS = re.compile(r"/sessions/[0-9a-f]{32}/v1/.+")
LOOK = 0.02          # seconds between two looks for a session
LONGEST_WAIT = 600.0
LARGEST = 3.4e38     # of float32
MOST_NUMBERS = 64    # of an outcome's info
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z0-9_]+$")]


class SessionAsked(Strict):
    wait: float = Field(60.0, ge=0, le=LONGEST_WAIT, description="seconds until 503, where there is none")


class SessionOutcome(Strict):
    reward: Number | None = Field(None, description="of the whole episode")
    info: dict[Name, Number] = Field({}, max_length=MOST_NUMBERS,
                                     description='named numbers; "correct" feeds pass@k')
    error: str | None = Field(None, min_length=1, max_length=2000,
                              description="why the episode failed through no fault of the policy; in place "
                                          "of a reward")

    @model_validator(mode="after")
    def _either(self):
        if (self.reward is None) == (self.error is None):
            raise ValueError("give a reward, or an error where the episode is worth nothing: one of them")
        if self.error is not None and self.info:
            raise ValueError("info goes with a reward")
        return self

    @property
    def outcome(self) -> Step | EnvError:
        if self.error is not None:
            return EnvError(Status.STEP_FAILED, f"its agent failed: {self.error}")
        return Step(self.reward, True, self.info)


def add_sessions(app: FastAPI, calls: SessionCalls) -> None:
    """Adds the routes."""
    _add_tables(app, calls)
    service = calls.service

    @app.post("/sessions/{session}/v1/chat/completions")
    async def session_chat(session: str, body: ChatRequest, request: Request):
        return await answered(service, calls.chat(session, body), body, request)

    @app.post("/sessions/{session}/v1/completions")
    async def session_completions(session: str, body: CompletionRequest, request: Request):
        return await answered(service, calls.completions(session, body), body, request)

    @app.get("/sessions/{session}/v1/models")
    async def session_models(session: str):
        with refusing(), calls.sessions.using(session) as opened:
            cards = service.models.cards(service.front.context)
            return JsonAnswer({"object": "list",
                               "data": [card | {"sampling": _sampling(opened.plan)} for card in cards]})


def _sampling(plan: SessionPlan) -> dict:
    """How the turns of a session are drawn, for agents whose clients send such wishes with each call."""
    params = plan.params
    return {"temperature": params.temperature, "top_p": params.top_p, "top_k": params.top_k,
            "min_p": params.min_p, "max_tokens": params.max_tokens, "max_calls": plan.rounds,
            "max_sequence_tokens": plan.longest}


def _add_tables(app: FastAPI, calls: SessionCalls) -> None:
    @app.post("/sessions", responses={503: {"description": "no episode waits; ask again"}})
    async def open_session(body: SessionAsked, request: Request):
        session = await unless_gone(_next(calls, body.wait), request)
        if session is None:
            return JsonAnswer({}, GONE)
        if await request.is_disconnected():  # it left while it was given the session
            calls.sessions.offer(session)
            return JsonAnswer({}, GONE)
        return JsonAnswer(_told(calls, session, str(request.base_url)))

    @app.post("/sessions/{session}/finish")
    async def finish_session(session: str, body: SessionOutcome):
        with refusing():
            calls.sessions.finish(session, body.outcome)
        return JsonAnswer({"id": session, "finished": True})


async def _next(calls: SessionCalls, wait: float) -> AgentSession:
    """The next session that an agent can have; raises Refusal where there is none in time."""
    until = time.monotonic() + wait
    while True:
        with refusing():
            session = calls.sessions.take()
        if session is not None:
            return session
        if time.monotonic() >= until:
            raise Refusal(503, "No episode waits for an agent now, as while the weights are updated. Ask "
                          "again.", headers={"Retry-After": "1"})
        await asyncio.sleep(LOOK)


def _told(calls: SessionCalls, session: AgentSession, reached: str) -> dict:
    """What its agent is told of a session; `reached`: the URL by which it asked."""
    plan = session.plan
    base_url = calls.sessions.address(session, calls.public_url or reached.rstrip("/"))
    return {"id": session.id, "base_url": base_url, "model": calls.service.models.name,
            "row": dict(plan.prompt.row), "max_calls": plan.rounds, "max_tokens": plan.params.max_tokens,
            "max_sequence_tokens": plan.longest}
