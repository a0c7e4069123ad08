"""Verdicts that are kept by their item, so that nothing is judged twice."""
import json
import pathlib
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

from jaxrl_moe.judges.records import verdict_of, verdict_plain
from jaxrl_moe.judges.wal import write_ahead
from jaxrl_moe.outside import parse
from jaxrl_moe.types import UserError

FORMAT = 1           # of the file's table
MOST = 100_000       # verdicts that are kept in memory; a file keeps all
BUSY_SECONDS = 30.0  # that another process may take to write


class KeptVerdicts:
    """Verdicts in an SQLite file, which several processes may have open, or in memory. Any thread may call
    it.

    Args:
      path: of the file, which is made if it is not there; empty: they are kept in memory.
      plain, read: a verdict as JSON, and back, with words for where it stands; those of judges, if others do
        not say.

    Raises:
      UserError: the file cannot be opened, or is another's.
    """

    def __init__(self, path: str = "", plain: Callable[[Any], Any] = verdict_plain,
                 read: Callable[[Any, str], Any] = verdict_of):
        self._plain = plain
        self._read = read
        self._path = path
        self._door = threading.Lock()
        try:
            if path:
                pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path or ":memory:", timeout=BUSY_SECONDS, check_same_thread=False)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"The verdicts cannot be kept in {path!r}: {error}. Give the path of a file that "
                            "this program has made, or of one that is not there.") from error

    def get(self, item: str) -> Any:
        """The verdict of an item, if there is one."""
        with self._door:
            row = self._file.execute("SELECT verdict FROM verdicts WHERE item = ?", (item,)).fetchone()
        where = f"the verdict {item} in {self._path or 'memory'}"
        return self._read(parse(row[0], where), where) if row else None

    def put(self, item: str, verdict: Any) -> None:
        """Keeps a verdict; one that is there already stays.

        Raises:
          UserError: it cannot be written.
        """
        text = json.dumps(self._plain(verdict))
        try:
            with self._door, self._file:
                kept = self._file.execute("INSERT OR IGNORE INTO verdicts (item, verdict) VALUES (?, ?)",
                                          (item, text))
                if not self._path:
                    self._file.execute("DELETE FROM verdicts WHERE number <= ?", (kept.lastrowid - MOST,))
        except sqlite3.Error as error:
            raise UserError(f"A verdict cannot be written to {self._path or 'memory'}: {error}.") from error

    def clear(self) -> int:
        """Forgets all of them; how many there were."""
        with self._door, self._file:
            return self._file.execute("DELETE FROM verdicts").rowcount

    def close(self) -> None:
        with self._door:
            self._file.close()

    def _prepare(self) -> None:
        self._check()  # before another's file is turned into anything
        write_ahead(self._file, BUSY_SECONDS)
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            self._check()
            self._file.execute("CREATE TABLE IF NOT EXISTS verdicts (number INTEGER PRIMARY KEY, "
                               "item TEXT UNIQUE NOT NULL, verdict TEXT NOT NULL)")
            self._file.execute(f"PRAGMA user_version = {FORMAT}")

    def _check(self) -> None:
        # one statement: another process may make the table between two
        version, tables = self._file.execute(
            "SELECT user_version, (SELECT count(*) FROM sqlite_master) FROM pragma_user_version").fetchone()
        if version not in (0, FORMAT) or tables and not version:
            raise sqlite3.DatabaseError(f"it is a database of another kind (version {version})")
