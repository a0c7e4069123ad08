"""Who comes in at the page: a judge's token opens a session, whose cookie no script and no other site's
request has; whoever changes something shows the session's second secret too."""
import hmac

from fastapi import Request, Response

from jaxrl_moe.judges.queue.queue import Queue
from jaxrl_moe.serving.http.errors import Refusal
from jaxrl_moe.serving.judges.page.attempts import Attempts
from jaxrl_moe.serving.judges.page.sessions import AGE, PageSession, PageSessions

CSRF_HEADER = "x-csrf-token"
_HOST_COOKIE = "__Host-judge"  # which browsers take only over TLS, and from no other host


class Door:
    """Logs judges in and out.

    Args:
      queue: knows their tokens.
      secure: whether browsers reach the page over TLS.
    """

    def __init__(self, queue: Queue, sessions: PageSessions, secure: bool):
        self._queue = queue
        self._sessions = sessions
        self._secure = secure
        self._attempts = Attempts()

    def log_in(self, request: Request, token: str) -> PageSession:
        """A new session; raises Refusal for a token that is nobody's.

        A right token always comes in: behind another server all judges may share an address, and who sends
        wrong tokens from it must not lock them out. A token has 256 bits, so that nobody comes by one by
        trying; the limit is there to be told of it.
        """
        judge = self._queue.login(token)
        if judge is None:
            raise self._refused(request.client.host if request.client else "")
        self._sessions.end(self._id(request))
        return self._sessions.begin(judge)

    def _refused(self, address: str) -> Refusal:
        """What a wrong token from an address is answered; it counts, unless there were too many already."""
        wait = self._attempts.wait(address)
        if wait:
            return Refusal(429, "Too many wrong tokens have come from here. Try again in a minute.",
                           headers={"Retry-After": str(int(wait) + 1)})
        self._attempts.failed(address)
        return Refusal(401, "That is no judge's token. Paste the whole token that you were given.")

    def remember(self, request: Request, response: Response, session: PageSession) -> None:
        """Gives the browser the session's cookie."""
        response.set_cookie(self._cookie(request), session.id, max_age=int(AGE), path="/",
                            secure=self._secure, httponly=True, samesite="strict")

    def log_out(self, request: Request, response: Response) -> None:
        """Ends the request's session."""
        self._sessions.end(self._id(request))
        response.delete_cookie(self._cookie(request), path="/", secure=self._secure, httponly=True,
                               samesite="strict")

    def look(self, request: Request) -> PageSession:
        """The request's session; raises Refusal where there is none, or its judge has been removed since."""
        session = self._sessions.find(self._id(request))
        if session is None or not self._queue.is_judge(session.judge, session.began):
            raise Refusal(401, "You are not logged in.")
        return session

    def change(self, request: Request) -> PageSession:
        """The session of a request that changes something; raises Refusal where it does not show the second
        secret."""
        session = self.look(request)
        given = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(given.encode(), session.csrf.encode()):
            raise Refusal(403, "The request does not come from this page. Load the page anew.")
        return session

    def _id(self, request: Request) -> str:
        return request.cookies.get(self._cookie(request), "")

    def _cookie(self, request: Request) -> str:
        """A browser has one set of cookies for all ports of a host, so the port is part of the name."""
        port = request.scope["server"][1]
        return _HOST_COOKIE if self._secure else f"judge_{port}"
