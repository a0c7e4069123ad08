"""The viewer's HTTP application: the page's own files, and the runs as JSON. Runs, phases, steps and rows go
by their numbers; nothing that is asked for becomes a path."""
import pathlib
from typing import Annotated, Any

from fastapi import FastAPI, Query
from starlette.concurrency import run_in_threadpool

from jaxrl_moe.serving.http.errors import JsonAnswer, Refusal, add_handlers
from jaxrl_moe.serving.http.pages import PageGuard, add_files, page_files
from jaxrl_moe.serving.viewer import answers
from jaxrl_moe.serving.viewer.index import ChangedError
from jaxrl_moe.serving.viewer.questions import (
    CurvesWanted,
    GroupsWanted,
    Nothing,
    RowWanted,
    SearchWanted,
    StepsWanted,
)
from jaxrl_moe.serving.viewer.shown import ShownPhase, ShownRuns


def make_viewer(runs: ShownRuns) -> PageGuard:
    """The ASGI application over runs whose files somebody else advances, behind its guard."""
    app = FastAPI(title="jaxrl_moe viewer", docs_url=None, redoc_url=None, openapi_url=None)
    add_handlers(app)
    add_files(app, page_files(pathlib.Path(__file__).parent / "static"))

    @app.exception_handler(ChangedError)
    async def changed(_: Any, error: ChangedError):
        return JsonAnswer({"error": {"message": str(error), "code": "changed"}}, 409)

    @app.get("/api/state")
    async def state(_: Annotated[Nothing, Query()]):
        return JsonAnswer({"runs": await run_in_threadpool(runs.state)})

    _add_phases(app, runs)
    return PageGuard(app)


def _add_phases(app: FastAPI, runs: ShownRuns):
    def phase_of(run: int, phase: int) -> ShownPhase:
        if not (0 <= run < len(runs.phases) and 0 <= phase < len(runs.phases[run])):
            raise Refusal(404, f"There is no run {run} with a phase {phase}.")
        return runs.phases[run][phase]

    @app.get("/api/{run}/{phase}/steps")
    async def steps(run: int, phase: int, wanted: Annotated[StepsWanted, Query()]):
        return await _answered(answers.steps, phase_of(run, phase), wanted)

    @app.get("/api/{run}/{phase}/groups")
    async def groups(run: int, phase: int, wanted: Annotated[GroupsWanted, Query()]):
        return await _answered(answers.groups, phase_of(run, phase), wanted)

    @app.get("/api/{run}/{phase}/search")
    async def search(run: int, phase: int, wanted: Annotated[SearchWanted, Query()]):
        return await _answered(answers.search, phase_of(run, phase), wanted)

    @app.get("/api/{run}/{phase}/row")
    async def row(run: int, phase: int, wanted: Annotated[RowWanted, Query()]):
        return await _answered(answers.row, phase_of(run, phase), wanted)

    @app.get("/api/{run}/{phase}/curves")
    async def curves(run: int, phase: int, wanted: Annotated[CurvesWanted, Query()]):
        return await _answered(answers.curves, phase_of(run, phase), wanted)


async def _answered(answer: Any, phase: ShownPhase, wanted: Any) -> JsonAnswer:
    """What an answer's function gives, worked out in a thread."""
    try:
        return await run_in_threadpool(lambda: JsonAnswer(answer(phase, wanted)))
    except IndexError as error:
        raise Refusal(404, f"There is no row {error}.") from error
