"""Sessions: the episodes that clients play call by call. They are bounded in number, know nothing of each
other, and end when their client closes them or is not heard of any more."""
import collections
import concurrent.futures
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from jaxrl_moe.protocols import Task
from jaxrl_moe.serving.envs.session import Session, Shown
from jaxrl_moe.serving.envs.tells import Tells
from jaxrl_moe.types import UserError

NUMBERS = 2**53    # sessions are numbered at random, so that no server knows those of one that died
LOOKS = 4          # for idle sessions, in the time after which one expires
SPARE_THREADS = 8  # beside one for each session, so that a call of none is answered too


class Sessions:
    """The sessions of a server. Calls of different sessions may come from several threads at once; they are
    made in threads of `pool`.

    Args:
      task: whose episodes are played; it is closed with the sessions.
      most: sessions at once.
      idle_seconds: after which a session that nobody uses expires.
      share: (which, of how many) servers this is, among which the sessions' numbers tell whose they are.
      tells: what is read off an Env after each call, for the wire format.
      clock: of the idle time, in seconds.

    Attributes:
      pool: of one thread for each session, so that none waits for another; of one alone where the task bears
        no more.
      ended: {why: how many sessions}.
    """

    def __init__(self, task: Task, *, most: int = 256, idle_seconds: float = 1800.0,
                 share: tuple[int, int] = (0, 1), tells: Tells = MappingProxyType({}),
                 clock: Callable[[], float] = time.monotonic):
        self.most = most
        self.ended: collections.Counter[str] = collections.Counter()
        self.pool = concurrent.futures.ThreadPoolExecutor(
            most + SPARE_THREADS if task.concurrent else 1, "env")
        self._task = task
        self._idle_seconds = idle_seconds
        self._which, self._of = share
        self._tells = tells
        self._clock = clock
        self._sessions: dict[int, Session] = {}
        self._held = 0
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._expire_in_time, name="expiry", daemon=True)
        self._watch.start()

    @property
    def held(self) -> int:
        """Sessions that hold an environment, or may: those that are open, and those that have ended while a
        call is still at work."""
        return self._held

    @property
    def open(self) -> int:
        """Sessions that can be used."""
        return len(self._sessions)

    def create(self, row: Mapping[str, Any] | None = None) -> tuple[int, Shown | None]:
        """A new session, whose first episode is that of a row, if one is given: (its number, what it shows).

        Raises:
          UserError: there is no room, or no episode can be made of the row.
        """
        if self._held >= self.most:
            self.expire()
        session = self._admit()
        if row is None:
            return session.number, None
        try:
            return session.number, self.reset(session.number, row)
        except BaseException:
            self.end(session.number, "failed")
            raise

    def reset(self, number: int, row: Mapping[str, Any]) -> Shown:
        """Begins another episode in a session.

        Raises:
          UserError: there is no such session, a call of it is at work, or no episode can be made of the row.
        """
        with self._at_work(number) as session:
            return session.begin(self._task, row)

    def create_own(self) -> int:
        """The number of a new session that the server plays itself, by using(); no environment is called.
        Raises UserError where there is no room."""
        session = self._admit()
        session.own = True
        return session.number

    def using(self, number: int, call: Callable[[Session, Task], Any]) -> Any:
        """Makes a call of a session; raises UserError as step does."""
        with self._at_work(number) as session:
            return call(session, self._task)

    def step(self, number: int, text: str) -> Shown:
        """Takes a turn in a session's episode.

        Raises:
          UserError: there is no such session, a call of it is at work, its episode has not begun or has
            ended, or the environment fails.
        """
        with self._at_work(number) as session:
            return session.step(text)

    def look(self, number: int) -> Shown:
        """What the session's last call showed, again. Raises UserError as step does."""
        with self._at_work(number) as session:
            return session.look()

    def end(self, number: int, why: str = "closed") -> None:
        """Ends a session; its environment is closed, once a call that is at work has come back.

        Raises:
          UserError: there is no such session.
        """
        with self._changed:
            session = self._known(number)
            del self._sessions[number]
            self.ended[why] += 1
            session.over = True
            idle = not session.busy
        if idle:
            self._release(session)

    def expire(self) -> None:
        """Ends the sessions that were idle for too long."""
        with self._changed:
            last = self._clock() - self._idle_seconds
            idle = [each.number for each in self._sessions.values()
                    if each.used < last and not each.busy and not each.own]
        for number in idle:
            with contextlib.suppress(UserError):  # its client has just closed it
                self.end(number, "expired")

    def close(self, grace: float = 5.0) -> None:
        """Ends all sessions and closes the task; waits for calls at work, but no longer than `grace`
        seconds."""
        with self._changed:
            if self._closed.is_set():
                return
            self._closed.set()
        self._watch.join()
        self.pool.submit(self._end_all)
        with self._changed:
            self._changed.wait_for(lambda: not self._held, grace)
        self.pool.shutdown(wait=not self._held, cancel_futures=True)
        self._task.close()

    def _end_all(self) -> None:
        for number in list(self._sessions):
            with contextlib.suppress(UserError):
                self.end(number, "shut down")

    def _admit(self) -> Session:
        with self._changed:
            if self._closed.is_set():
                raise UserError("The server is ending: it takes no more sessions.")
            if self._held >= self.most:
                raise UserError(f"All {self.most} sessions of this server are taken: close those that are "
                                "done, or start it with more --sessions.")
            number = secrets.randbelow(NUMBERS // self._of) * self._of + self._which
            self._held += 1
            return self._sessions.setdefault(number, Session(number, self._clock(), self._tells))

    def _known(self, number: int) -> Session:
        session = self._sessions.get(number)
        if session is None:
            raise UserError(f"There is no session {number} here: it was closed, has expired, or never was. "
                            "Create another.")
        return session

    @contextlib.contextmanager
    def _at_work(self, number: int) -> Iterator[Session]:
        """Holds the session for one call."""
        with self._changed:
            session = self._known(number)
            if session.busy:
                raise UserError(f"Session {number} is at work on another call: it takes one at a time.")
            session.busy = True
        try:
            yield session
        finally:
            with self._changed:
                session.busy = False
                session.used = self._clock()
                over = session.over
            if over:
                self._release(session)

    def _release(self, session: Session) -> None:
        try:
            session.close()
        except Exception as error:  # nobody may be there to be told
            logging.getLogger(__name__).error("An environment could not be closed", exc_info=error)
        with self._changed:
            self._held -= 1
            self._changed.notify_all()

    def _expire_in_time(self) -> None:
        looking = None
        while not self._closed.wait(self._idle_seconds / LOOKS):
            if looking is None or looking.done():
                looking = self.pool.submit(self.expire)
