"""The sessions of a run: the loop opens and ends them, agents take them over HTTP, call the policy, and say
what came of it."""
import collections
import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from jaxrl_moe.rollout.agents.session import AgentSession, SessionError, SessionFault, SessionPlan
from jaxrl_moe.types import EnvError, Status, Step, UserError

_REMEMBERED = 4096  # sessions that are over, of which a late call is told so


class StoppedError(UserError):
    """The run was told to stop while agents play, for whom it could wait for ever."""


class AgentSessions:
    """The sessions that are open, by their ids. Any thread may call it.

    Attributes:
      changed: notified where a session has ended, or one is there to be taken. It guards all of them.
      url: of the endpoint, as agents reach it; it is known once that listens.
      stopping: whether the run was told to stop.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.url = ""
        self.stopping: Callable[[], bool] = lambda: False
        self._open: dict[bytes, AgentSession] = {}  # by a hash, so that no comparison tells of an id
        self._offered: collections.deque[AgentSession] = collections.deque()
        self._closed = False
        self._asked = time.monotonic()
        self._over: collections.OrderedDict[bytes, str] = collections.OrderedDict()

    def open(self, plan: SessionPlan) -> AgentSession:
        """A new session, which nobody has yet."""
        session = AgentSession(plan)
        with self.changed:
            self._open[_key(session.id)] = session
        return session

    def address(self, session: AgentSession, url: str = "") -> str:
        """The base_url of its OpenAI client; `url` is the endpoint's where it is reached by another."""
        return f"{url or self.url}/sessions/{session.id}/v1"

    def begin(self, session: AgentSession) -> None:
        """The task has it played from now on."""
        with self.changed:
            session.take()

    def offer(self, session: AgentSession) -> None:
        """Lets the next agent that asks take it."""
        with self.changed:
            if session.outcome is None:
                session.taken = False
                self._offered.append(session)
            self.changed.notify_all()

    def take(self) -> AgentSession | None:
        """The session that was offered first; None: there is none.

        Raises:
          SessionError: there will be none any more.
        """
        with self.changed:
            self._asked = time.monotonic()
            if self._closed:
                raise SessionError(SessionFault.ENDED, "The run is over: it has no more sessions.")
            if not self._offered:
                return None
            session = self._offered.popleft()
            session.take()
            return session

    def unasked(self, seconds: float) -> bool:
        """Whether sessions wait, and nobody has asked for one for so long; True once in that time."""
        with self.changed:
            late = bool(self._offered) and time.monotonic() - self._asked > seconds
            self._asked = time.monotonic() if late or not self._offered else self._asked
            return late

    @property
    def waiting(self) -> int:
        """Sessions that nobody has taken."""
        return len(self._offered)

    @property
    def held(self) -> int:
        """Sessions that are not over."""
        return len(self._open)

    @contextlib.contextmanager
    def using(self, number: str) -> Iterator[AgentSession]:
        """The open session of an id, which nobody else changes meanwhile.

        Raises:
          SessionError: there is none.
        """
        key = _key(number)
        with self.changed:
            session = self._open.get(key)
            if session is None or session.outcome is not None:
                raise _missing(self._over.get(key) if session is None else "it was finished")
            yield session

    def finish(self, number: str, outcome: Step | tuple[Step, ...] | EnvError) -> None:
        """The agent says what came of a session or of each of its calls, or why nothing did.

        Raises:
          SessionError: there is no such session, or it is over.
        """
        with self.using(number) as session:
            session.outcome = outcome if isinstance(outcome, EnvError) else session.judged(outcome)
            self.changed.notify_all()

    def close(self) -> None:
        """No session can be taken any more."""
        with self.changed:
            self._closed = True

    def left(self, number: str, turn: int) -> None:
        """Nothing more is drawn for a call of a session, whatever became of either."""
        with self.changed:
            session = self._open.get(_key(number))
            if session is not None:
                session.left(turn)

    def end(self, session: AgentSession, why: str) -> None:
        """The loop needs it no longer; calls that come late are told why."""
        key = _key(session.id)
        with self.changed:
            if self._open.pop(key, None) is None:
                return
            session.outcome = session.outcome or EnvError(Status.CRASHED, why)
            with contextlib.suppress(ValueError):
                self._offered.remove(session)
            self._over[key] = why
            while len(self._over) > _REMEMBERED:
                self._over.popitem(last=False)


def _key(number: Any) -> bytes:
    return hashlib.sha256(str(number).encode("utf-8", "replace")).digest()


def _missing(why: str | None) -> SessionError:
    if why is None:
        return SessionError(SessionFault.UNKNOWN, "There is no such session. Open one by POST /sessions.")
    return SessionError(SessionFault.ENDED, f"The session is over: {why}. Open another one by POST "
                        "/sessions.")
