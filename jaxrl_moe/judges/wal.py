"""Files of SQLite that several processes open."""
import sqlite3
import time

PAUSE = 0.01  # seconds between two tries


def write_ahead(connection: sqlite3.Connection, seconds: float) -> None:
    """Turns a file to write-ahead logging, by which those who read do not wait for one who writes. SQLite's
    own time-out does not hold here: two who turn a new file at once would wait for each other.

    Raises:
      sqlite3.OperationalError: others kept the file locked for so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return connection.execute("PRAGMA journal_mode = WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE)
