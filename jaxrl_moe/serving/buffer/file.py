"""The SQLite file of a rollout buffer: opened by one server at a time, and written whole or not at all."""
import contextlib
import fcntl
import pathlib
import sqlite3
import threading
from collections.abc import Iterator

from jaxrl_moe.judges.wal import write_ahead
from jaxrl_moe.types import UserError

FORMAT = 1           # of the tables
APPLICATION = 0x6A42  # marks a file as a buffer's
BUSY_SECONDS = 30.0
TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE groups (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, size INTEGER NOT NULL, state TEXT NOT NULL,
  timed_out INTEGER NOT NULL DEFAULT 0, touched REAL NOT NULL, place INTEGER);
CREATE UNIQUE INDEX open_groups ON groups (name) WHERE state = 'open';
CREATE INDEX groups_by_state ON groups (state, place);
CREATE TABLE items (
  number INTEGER PRIMARY KEY, uid TEXT UNIQUE NOT NULL, digest TEXT NOT NULL,
  member INTEGER NOT NULL REFERENCES groups (id), reward REAL NOT NULL, body TEXT NOT NULL);
CREATE INDEX items_by_group ON items (member);
"""


class FileFailed(UserError):
    """The file could not be read or written, as on a full disk: nothing has changed in it."""


class BufferFile:
    """The file. Any thread may use it; one transaction goes on at a time.

    Args:
      path: made where it is not there.

    Raises:
      UserError: it cannot be opened, is another's, or another server has it.
    """

    def __init__(self, path: str):
        self._path = pathlib.Path(path)
        self._door = threading.Lock()
        with contextlib.ExitStack() as opened:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = opened.enter_context(self._locked())
                self._file = sqlite3.connect(self._path, timeout=BUSY_SECONDS, check_same_thread=False,
                                             isolation_level=None)
                opened.callback(self._file.close)
                self._prepare()
            except (OSError, sqlite3.Error) as error:
                raise UserError(f"The buffer cannot be kept in {path!r}: {error}. Give the path of a file "
                                "that this server has made, or of one that is not there.") from error
            opened.pop_all()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One of reading and writing; what it has written is on the disk when the block has ended.

        Raises:
          FileFailed: it could not be done.
        """
        with self._door:
            try:
                self._file.execute("BEGIN IMMEDIATE")
                try:
                    yield self._file
                    self._file.execute("COMMIT")
                except BaseException:
                    if self._file.in_transaction:
                        self._file.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise FileFailed(f"The buffer's file {self._path} failed: {error}. Nothing of the request "
                                 "was done; make room on its disk, or start the server again.") from error

    def close(self) -> None:
        with self._door:
            self._file.close()
            self._lock.close()

    def _locked(self):
        """A file beside it that this process has locked, until it ends however it ends."""
        lock = self._path.with_name(f"{self._path.name}.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise UserError(f"Another server has the buffer {str(self._path)!r}: end it, or give this one a "
                            "file of its own by --path.") from error
        return lock

    def _prepare(self) -> None:
        """A new file gets its tables, before which another's is left as it is."""
        version, mark, tables = self._file.execute(
            "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_master) FROM "
            "pragma_user_version, pragma_application_id").fetchone()
        if (version, mark) != (FORMAT, APPLICATION) and (version or mark or tables):
            raise sqlite3.DatabaseError(f"it is a database of another kind (version {version})")
        write_ahead(self._file, BUSY_SECONDS)
        self._file.execute("PRAGMA synchronous = FULL")
        if not version:
            self._file.executescript(f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION}; "
                                     f"PRAGMA user_version = {FORMAT}; COMMIT;")
