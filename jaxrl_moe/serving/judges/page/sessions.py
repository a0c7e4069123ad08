"""Who is logged in at the page. Sessions lie in a file beside the queue, so that a restart of the server ends
none; it holds hashes of their ids alone, with which nobody can come in."""
import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import pathlib
import secrets
import threading
import time
from collections.abc import Iterator

from filelock import FileLock

from jaxrl_moe import log_files
from jaxrl_moe.outside import Fields, read_object
from jaxrl_moe.types import UserError

AGE = 14 * 24 * 3600.0  # seconds after its login at which a session ends
MOST = 1000             # sessions at once; the oldest end for new ones
_LONGEST = 200          # characters of an id that somebody sends


@dataclasses.dataclass(frozen=True)
class PageSession:
    """A judge's session: its id, which the browser's cookie holds, the judge's name, and the time.time() of
    the login."""
    id: str
    judge: str
    began: float

    @property
    def csrf(self) -> str:
        """What the page sends with all that changes something; other sites can neither read nor guess it."""
        return hmac.new(self.id.encode(), b"csrf", hashlib.sha256).hexdigest()


class PageSessions:
    """The sessions of one file, which several servers may share. Any thread may call it.

    Args:
      path: of the file, which is made where there is none, readable by this user alone.

    Raises:
      UserError: it cannot be read, or holds something else.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._thread = threading.Lock()
        self._process = FileLock(f"{path}.lock", mode=0o600)
        self._seen: tuple[int, ...] = ()
        self._held: dict[str, tuple[str, float]] = {}
        with self._changing():  # which fails here, not at the first login, where it cannot be written
            pass

    def begin(self, judge: str) -> PageSession:
        """A new session of a judge."""
        session = PageSession(secrets.token_urlsafe(16), judge, time.time())
        with self._changing():
            self._held[_hash(session.id)] = (judge, session.began)
            newest = sorted(self._held.items(), key=lambda item: item[1][1])[-MOST:]
            self._held = dict(newest)
        return session

    def find(self, id: str) -> PageSession | None:
        """The session with this id; None: there is none, or it is over."""
        with self._thread:
            self._read_again()
            judge, began = self._held.get(_hash(id), ("", 0.0)) if 0 < len(id) <= _LONGEST else ("", 0.0)
        return PageSession(id, judge, began) if time.time() - began < AGE else None

    def end(self, id: str) -> None:
        """Ends a session, if there is one."""
        with self._changing():
            self._held.pop(_hash(id), None)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """What the block does to the sessions is kept."""
        try:
            with self._thread, self._process:
                self._read()
                yield
                self._write()
        except OSError as error:
            raise UserError(f"The page's sessions cannot be kept in {self._path}: {error.strerror or error}. "
                            "Name another file by --sessions.") from error

    def _read_again(self) -> None:
        """Whoever asks has no part in what may be wrong with the file, and is not told of it."""
        try:
            self._read()
        except UserError as error:
            raise RuntimeError("the file of the page's sessions was damaged while it served") from error

    def _read(self) -> None:
        """Reads the file, if it has changed."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._seen = ()
            self._held = {}
            return
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen != self._seen:
            self._held = _sessions(self._path)
            self._seen = seen

    def _write(self) -> None:
        held = {each: list(session) for each, session in self._held.items()
                if time.time() - session[1] < AGE}
        data = json.dumps({"sessions": held}).encode()
        with log_files.whole_file(self._path) as path:
            _write_privately(path, data)
        self._seen = ()  # what is read next is what was written


def _sessions(path: pathlib.Path) -> dict[str, tuple[str, float]]:
    """{hash of the id: (judge, time.time() of the login)}."""
    fields = Fields(read_object(path), str(path))
    fields.only(("sessions",))
    held = {}
    for hashed, session in fields.object("sessions").values.items():
        fits = isinstance(session, list) and len(session) == 2 and isinstance(session[0], str)
        if not fits or type(session[1]) not in (int, float):
            raise UserError(f"{path} holds no sessions of the page. Remove it, or name another file by "
                            "--sessions; judges then log in again.")
        held[hashed] = (session[0], float(session[1]))
    return held


def _write_privately(path: pathlib.Path, data: bytes) -> None:
    path.unlink(missing_ok=True)  # what a server that died has left
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _hash(id: str) -> str:
    """With 128 random bits in the id, to look the hash up tells nobody of it by the time that it takes."""
    return hashlib.sha256(id.encode()).hexdigest()
