"""The HTTP application of an evaluation server."""
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse

from jaxrl_moe import __version__
from jaxrl_moe.envs.kernels.verdicts.told import said
from jaxrl_moe.envs.kernels.verdicts.verdict import Fault
from jaxrl_moe.serving.http.bodies import add_json_bodies, whole_body
from jaxrl_moe.serving.http.errors import JsonAnswer, Refusal, add_handlers, error_body
from jaxrl_moe.serving.http.gate import Gate
from jaxrl_moe.serving.http.metrics import metric
from jaxrl_moe.serving.kernels.bodies import EvalBody
from jaxrl_moe.serving.kernels.service import KernelService

TIMED_OUT = "timed_out"
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "the body, or the problem's own file, cannot be used"},
    429: {"description": "no room; see Retry-After"},
    503: {"description": "a timing without a GPU, or nobody could judge now"},
    504: {"description": "the candidate took too long; the verdict is there too"}}


def make_app(service: KernelService, api_key: str = "") -> Gate:
    """The ASGI application of an evaluation server, behind its gate.

    Args:
      api_key: asked of every request but /health.
    """
    app = FastAPI(title="jaxrl_moe: kernels", version=__version__)
    add_handlers(app)
    add_json_bodies(app)

    @app.post("/eval", responses=ERRORS)
    async def evaluate(body: EvalBody):
        verdict = await service.eval(body)
        told = said(verdict)
        if verdict.fault == Fault.TIMED_OUT:
            return JsonAnswer(told | error_body(504, verdict.message, code=TIMED_OUT), 504)
        return JsonAnswer(told)

    @app.get("/health")
    async def health():
        return JsonAnswer({"status": "ok", "basis": service.basis, "workers": len(service.pool.workers),
                           "held": service.held})

    @app.get("/gpu_status")
    async def gpu_status():
        busy = service.pool.busy
        devices = [{"device": name, "busy": name in busy} for name in service.pool.gpus]
        return JsonAnswer({"gpus": devices, "total": len(devices), "available": len(devices) - len(busy)})

    @app.get("/backend_info")
    async def backend_info():
        return JsonAnswer({"backends": ["triton", "cuda"], "basis": service.basis,
                           "timed": bool(service.pool.gpus), **service.versions})

    @app.post("/reset_devices")
    async def reset_devices(request: Request):
        await _check_empty(request)
        await service.renew()
        return JsonAnswer({"status": "ok", "workers": len(service.pool.workers)})

    @app.post("/cleanup")
    async def cleanup(request: Request):
        await _check_empty(request)
        return JsonAnswer({"status": "ok", "verdicts_forgotten": service.cleanup()})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus():
        return PlainTextResponse(exposition(service), media_type="text/plain; version=0.0.4")
    return Gate(app, api_key, own_names=True)


async def _check_empty(request: Request) -> None:
    """Raises Refusal for a body, of which nothing would be read."""
    if (await whole_body(request)).strip() not in (b"", b"{}"):
        raise Refusal(400, "This call takes no body: send none, or {}.")


def exposition(service: KernelService) -> str:
    """The server's numbers in Prometheus' text format."""
    answers = {f'{{fault="{fault}",how="{how}"}}': count
               for (fault, how), count in sorted(service.answers.items())}
    lines = [*metric("kernel_verdicts_total", "counter", "answers about candidates, by fault", answers),
             *metric("kernel_seconds_total", "counter", "seconds that verdicts took which were judged",
                     {"": service.seconds}),
             *metric("kernel_candidates", "gauge", "candidates that are judged or wait", {"": service.held}),
             *metric("kernel_workers", "gauge", "candidates that can be judged at once",
                     {"": len(service.pool.workers)}),
             *metric("kernel_resets_total", "counter", "times that all workers were started anew",
                     {"": service.renewed})]
    return "\n".join(lines) + "\n"
