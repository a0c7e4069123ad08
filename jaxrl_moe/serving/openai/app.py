"""The HTTP application: OpenAI's routes, health, metrics, and adapters."""
import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from jaxrl_moe import __version__
from jaxrl_moe.serving.http import metrics
from jaxrl_moe.serving.http.bodies import GONE, add_json_bodies
from jaxrl_moe.serving.http.errors import JsonAnswer, Refusal, add_handlers
from jaxrl_moe.serving.http.gate import Gate
from jaxrl_moe.serving.http.gone import unless_gone
from jaxrl_moe.serving.openai.answers import Answer, Body, sse
from jaxrl_moe.serving.openai.generation import Generation
from jaxrl_moe.serving.openai.protocol import ChatRequest, CompletionRequest, LoadAdapter, UnloadAdapter
from jaxrl_moe.serving.openai.service import Service


def make_app(service: Service, api_key: str = "", *, add: Callable[[FastAPI], None] | None = None,
             secret_paths: re.Pattern | None = None) -> Gate:
    """The ASGI application over a service, behind its gate.

    Args:
      api_key: asked of every request but /health; without one adapters cannot be loaded over HTTP.
      add: adds further routes.
      secret_paths: of these, the ones that need no key.
    """
    app = FastAPI(title="jaxrl_moe", version=__version__,
                  responses={400: {"description": "the error says what to mend"}})
    add_handlers(app)
    add_json_bodies(app)
    _add_models(app, service)
    _add_adapters(app, service, bool(api_key))

    @app.post("/v1/completions", responses={429: {"description": "no room; see Retry-After"}})
    async def completions(body: CompletionRequest, request: Request):
        return await answered(service, service.completions(body), body, request)

    @app.post("/v1/chat/completions", responses={429: {"description": "no room; see Retry-After"}})
    async def chat_completions(body: ChatRequest, request: Request):
        return await answered(service, service.chat(body), body, request)

    @app.get("/health")
    async def health():
        alive = service.front.alive
        return JsonAnswer({"status": "ok" if alive else "the engine has stopped",
                           "paused": service.front.paused}, 200 if alive else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus():
        front = service.front
        text = metrics.exposition(service.counters, front.stats(), service.in_flight, front.version,
                                  front.paused)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    if add is not None:
        add(app)
    return Gate(app, api_key, secret_paths=secret_paths)


def _add_models(app: FastAPI, service: Service):
    @app.get("/v1/models")
    async def list_models():
        return JsonAnswer({"object": "list", "data": service.models.cards(service.front.context)})

    @app.get("/v1/models/{model:path}")
    async def retrieve_model(model: str):
        service.models.check(model)
        return JsonAnswer(service.models.cards(service.front.context)[0])


def _add_adapters(app: FastAPI, service: Service, trusted: bool):
    def check_trust():
        if not trusted:
            raise Refusal(403, "Adapters are read from the server's disk, so only a server with an API key "
                               "takes them over HTTP.")

    @app.post("/v1/load_lora_adapter", response_class=PlainTextResponse)
    async def load_lora_adapter(body: LoadAdapter):
        check_trust()
        return PlainTextResponse(await asyncio.to_thread(service.models.load, body.lora_name, body.lora_path,
                                                         body.load_inplace))

    @app.post("/v1/unload_lora_adapter", response_class=PlainTextResponse)
    async def unload_lora_adapter(body: UnloadAdapter):
        check_trust()
        return PlainTextResponse(await asyncio.to_thread(service.models.unload, body.lora_name))


async def answered(service: Service, admission: Coroutine[Any, Any, Generation], body: Body,
                   request: Request) -> Response:
    """The whole answer, or a stream of it; either way the generation is closed when the client has it, or has
    gone."""
    generation = await unless_gone(admission, request)
    if generation is None:
        return Response(status_code=GONE)
    answer = Answer(generation, body, service.readers)
    if body.stream:
        return EventStream(generation, answer)
    try:
        whole = await unless_gone(answer.whole(), request)
    finally:
        generation.close()
    return Response(status_code=GONE) if whole is None else JsonAnswer(whole)


class EventStream(StreamingResponse):
    """Server-sent events; Starlette cancels the stream when the client goes."""

    def __init__(self, generation: Generation, answer: Answer):
        super().__init__(_events(answer), media_type="text/event-stream", headers={
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no"
        })
        self._generation = generation

    async def __call__(self, scope: Any, receive: Any, send: Any):
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._generation.close()


async def _events(answer: Answer) -> AsyncIterator[str]:
    try:
        async for event in answer.events():
            yield sse(event)
    except Refusal as error:  # the status has been sent, so an event has to say it
        yield sse(error.body)
    yield "data: [DONE]\n\n"
