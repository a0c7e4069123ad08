"""The HTTP application of the page on which people judge."""
import collections
import dataclasses
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from starlette.concurrency import run_in_threadpool

from jaxrl_moe.judges.queue.queue import JudgeAgreement, Lease, Queue, QueueError, QueueProgress
from jaxrl_moe.serving.http.bodies import add_json_bodies
from jaxrl_moe.serving.http.errors import JsonAnswer, Refusal, add_handlers, error_body
from jaxrl_moe.serving.http.pages import READING, PageGuard, add_files, page_files
from jaxrl_moe.serving.judges.page import made, shown
from jaxrl_moe.serving.judges.page.bodies import AnswerBody, LeaseBody, LoginBody, NothingBody
from jaxrl_moe.serving.judges.page.door import Door
from jaxrl_moe.serving.judges.page.sessions import PageSession, PageSessions

_STALE = 600.0  # seconds for which what tells of single answers is shown as it was
_LEASES = 64  # whose works are at hand for frames; those of others are asked of the queue again


@dataclasses.dataclass
class JudgePage:
    """What the page's server serves.

    Attributes:
      queue: closed with the server.
      sessions: who is logged in.
      lease_seconds: that an item is in a judge's hands, counted anew while they work on it.
      public_url: see PageGuard.
    """
    queue: Queue
    sessions: PageSessions
    lease_seconds: float
    public_url: str = ""

    def __post_init__(self) -> None:
        self._leases: collections.OrderedDict[tuple[str, str], Lease] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._kept_progress: tuple[float, QueueProgress] | None = None
        self._kept_agreement: tuple[float, JudgeAgreement] | None = None

    def close(self) -> None:
        self.queue.close()

    def lease(self, judge: str) -> Lease | None:
        return self._kept(judge, self.queue.lease(judge, self.lease_seconds))

    def renew(self, judge: str, token: str) -> Lease:
        return self._kept(judge, self.queue.renew(judge, token, self.lease_seconds))

    def held(self, judge: str, token: str) -> Lease:
        """A lease that the judge holds, or has held a moment ago; raises QueueError where it is over."""
        with self._lock:
            lease = self._leases.get((judge, token))
        return lease or self.renew(judge, token)  # which the server handed out before it was started anew

    def progress(self, judge: str) -> QueueProgress:
        """Where things stand; the runs, and what waits for longest, as they were at most _STALE ago: no run
        waits for a gold item, and a judge would see by them that they have just answered one."""
        now = self.queue.progress(judge)
        with self._lock:
            if self._kept_progress is None or time.monotonic() - self._kept_progress[0] >= _STALE:
                self._kept_progress = time.monotonic(), now
            then = self._kept_progress[1]
        return dataclasses.replace(now, runs=then.runs, oldest_seconds=then.oldest_seconds)

    def agreement(self) -> JudgeAgreement:
        """How far the judges agreed at most _STALE ago, as answers to gold items are counted there."""
        with self._lock:
            if self._kept_agreement is None or time.monotonic() - self._kept_agreement[0] >= _STALE:
                self._kept_agreement = time.monotonic(), self.queue.agreement()
            return self._kept_agreement[1]

    def _kept(self, judge: str, lease: Lease | None) -> Lease | None:
        if lease is not None:
            with self._lock:
                self._leases[judge, lease.token] = lease
                self._leases.move_to_end((judge, lease.token))
                if len(self._leases) > _LEASES:
                    self._leases.popitem(last=False)
        return lease


def make_page(page: JudgePage, _: str = "") -> PageGuard:
    """The ASGI application of the page, behind its guard. It asks for logins, not for an API key."""
    return PageGuard(make_app(page), methods=(*READING, "POST"), public_url=page.public_url, frames=True)


def make_app(page: JudgePage) -> FastAPI:
    """The application without its guard."""
    app = FastAPI(title="jaxrl_moe: judging", docs_url=None, redoc_url=None, openapi_url=None)
    add_handlers(app)
    add_json_bodies(app)
    add_files(app, page_files(pathlib.Path(__file__).parent / "static"))

    @app.exception_handler(QueueError)
    async def refused(_: Any, error: QueueError):
        return JsonAnswer(error_body(409, str(error), code="queue"), 409)

    @app.get("/health")
    async def health():
        return JsonAnswer({"status": "ok"})

    door = Door(page.queue, page.sessions, secure=bool(page.public_url))
    _add_door(app, page, door)
    _add_looks(app, page, door)
    _add_changes(app, page, door)
    return app


def _add_door(app: FastAPI, page: JudgePage, door: Door) -> None:
    def entered(session: PageSession) -> JsonAnswer:
        return JsonAnswer({"judge": session.judge, "csrf": session.csrf, "lease_seconds": page.lease_seconds})

    @app.post("/api/login")
    async def log_in(request: Request, body: LoginBody):
        session = await run_in_threadpool(door.log_in, request, body.token)
        answer = entered(session)
        door.remember(request, answer, session)
        return answer

    @app.get("/api/session")
    async def current(session: Annotated[PageSession, Depends(door.look)]):
        return entered(session)

    @app.post("/api/logout")
    async def log_out(request: Request, _: NothingBody, __: Annotated[PageSession, Depends(door.change)]):
        answer = JsonAnswer({})
        await run_in_threadpool(door.log_out, request, answer)
        return answer


def _add_looks(app: FastAPI, page: JudgePage, door: Door) -> None:
    @app.get("/api/progress")
    def progress(session: Annotated[PageSession, Depends(door.look)]):
        return JsonAnswer(shown.shown_progress(page.progress(session.judge)))

    @app.get("/api/plots")
    def plots(session: Annotated[PageSession, Depends(door.look)]):
        recent = page.queue.recent(session.judge, shown.RECENT)
        return JsonAnswer({"recent": shown.shown_recent(recent),
                           "agreement": shown.shown_agreement(page.agreement(), session.judge)})

    @app.get("/frame/{token}/{work}/{part}")
    def frame(token: str, work: int, part: int, session: Annotated[PageSession, Depends(door.look)]):
        works = page.held(session.judge, token).works
        parts = works[work].shown if 0 <= work < len(works) else ()
        if not 0 <= part < len(parts) or parts[part].kind != "html":
            raise Refusal(404, "There is no such page.")
        return made.frame(parts[part].content)


def _add_changes(app: FastAPI, page: JudgePage, door: Door) -> None:
    changing = Annotated[PageSession, Depends(door.change)]

    @app.post("/api/lease")
    def lease(_: NothingBody, session: changing):
        held = page.lease(session.judge)
        return JsonAnswer({"lease": None if held is None else shown.shown_lease(held)})

    @app.post("/api/renew")
    def renew(body: LeaseBody, session: changing):
        return JsonAnswer(shown.time_left(page.renew(session.judge, body.token)))

    @app.post("/api/answer")
    def answer(body: AnswerBody, session: changing):
        page.queue.answer(session.judge, body.token, body.given())
        return JsonAnswer({})

    def returned(call: Callable[[str, str], None]) -> Callable[..., JsonAnswer]:
        def give(body: LeaseBody, session: changing):
            call(session.judge, body.token)
            return JsonAnswer({})
        return give

    for name in ("skip", "postpone", "give_back"):
        app.post(f"/api/{name}", name=name)(returned(getattr(page.queue, name)))
