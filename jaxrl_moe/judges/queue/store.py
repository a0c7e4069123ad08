"""The queue's database: SQLite beside the runs, or PostgreSQL where several hosts share it."""
import hashlib
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import postgresql, sa, sqlite
from jaxrl_moe.judges.queue.queue import QueueError
from jaxrl_moe.judges.wal import write_ahead
from jaxrl_moe.spelling import quoted

T = TypeVar("T")
BUSY_SECONDS = 60.0  # that a transaction waits for another one's end
TRIES = 5            # of a transaction that PostgreSQL ended because it stood in another's way
DRIVERS = {"sqlite": "sqlite+pysqlite", "sqlite+pysqlite": "sqlite+pysqlite",
           "postgresql": "postgresql+psycopg", "postgresql+psycopg": "postgresql+psycopg"}
_CONFLICTS = ("40001", "40P01")


class Store:
    """Transactions on the queue's tables, which it makes where there are none. Threads may share it.

    Args:
      url: sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME.
      clock: seconds since 1970; hosts that share a queue should agree on them.

    Raises:
      QueueError: there is no such database, or it is none of ours.
      DatabaseFailed: the database is away, as from read() and write().
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time):
        self.clock = clock
        self._url = _checked(url)
        self._engine = _engine(self._url)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        self._reading = self._engine.execution_options(reads=True)
        self.write(self._make_tables)

    def read(self, reads: Callable[[sa.Connection], T]) -> T:
        """What a function reads, in one transaction."""
        return self._within(self._reading, reads)

    def write(self, writes: Callable[[sa.Connection], T]) -> T:
        """What a function returns, in one transaction: all that it writes is kept, or nothing. It may be
        called again."""
        for _ in range(TRIES - 1):
            try:
                return self._within(self._engine, writes)
            except _Conflict:
                continue
        return self._within(self._engine, writes)

    def insert(self, table: sa.Table) -> Any:
        """An INSERT that can say what to do where the row is there already."""
        return (sqlite if self.is_sqlite else postgresql).insert(table)

    def lock(self, connection: sa.Connection, name: str) -> None:
        """Lets one transaction at a time go on under a name; with SQLite it is alone anyway."""
        if not self.is_sqlite:
            number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))

    def close(self) -> None:
        """Frees connections."""
        self._engine.dispose()

    def _within(self, engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
        try:
            with engine.begin() as connection:
                return work(connection)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            said = f"The queue's database {self._shown()} failed: {_reason(error)}."
            conflict = getattr(_origin(error), "sqlstate", "") in _CONFLICTS
            raise (_Conflict if conflict else DatabaseFailed)(said) from error
        except UnicodeEncodeError as error:
            raise QueueError(f"{quoted(error.object)} holds what is no text: half of a surrogate "
                             "pair.") from error

    def _make_tables(self, connection: sa.Connection) -> None:
        self.lock(connection, "schema")
        own = set(tables.metadata.tables)
        there = own.intersection(sa.inspect(connection).get_table_names())
        if not there:
            tables.metadata.create_all(connection, checkfirst=False)
            connection.execute(sa.insert(tables.schema).values(version=tables.VERSION))
        elif there != own:
            raise QueueError(f"The database {self._shown()} holds other tables of the names "
                             f"{', '.join(sorted(there))}: give the queue a database of its own.")
        version = connection.scalar(sa.select(tables.schema.c.version))
        if version != tables.VERSION:
            raise QueueError(f"The queue in {self._shown()} has version {version} of its tables, "
                             f"this program reads version {tables.VERSION}: export it by the program that "
                             "made it.")

    def _shown(self) -> str:
        return self._url.render_as_string(hide_password=True)


class DatabaseFailed(QueueError):
    """The database did not do what it was asked; it may be away for a while."""


class _Conflict(DatabaseFailed):
    """PostgreSQL ended a transaction that stood in another's way."""


def is_name(text: str) -> bool:
    """Whether a text may be an id or a token of ours; no database need be asked for others."""
    return text.isascii() and text.isprintable()


def plain_json(value: Any) -> str:
    """JSON in ASCII, the same for equal values."""
    return json.dumps(value, sort_keys=True)


def hashed(*values: Any) -> str:
    """The sha256 of values."""
    return hashlib.sha256(plain_json(values).encode()).hexdigest()


def _checked(url: str) -> sa.URL:
    try:
        made = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise QueueError("The queue's address is none that SQLAlchemy reads: write sqlite:///PATH, or "
                         "postgresql+psycopg://USER@HOST/NAME.") from error
    driver = DRIVERS.get(made.drivername)
    if driver is None:
        raise QueueError(f"The queue cannot be kept by {quoted(made.drivername)}: write sqlite:///PATH, or "
                         "postgresql+psycopg://USER@HOST/NAME.")
    if made.get_backend_name() == "sqlite":
        _check_file(made)
    return made.set(drivername=driver)


def _check_file(url: sa.URL) -> None:
    if url.database in (None, "", ":memory:"):
        raise QueueError("A queue in memory would be lost with its process: write sqlite:///PATH.")
    if url.query:
        raise QueueError(f"The queue's address sqlite:///{url.database} ends in options, and none is known: "
                         "leave out what begins with the question mark.")
    if not pathlib.Path(url.database).parent.is_dir():
        raise QueueError(f"The folder of the queue {url.database} does not exist: make it first.")


def _engine(url: sa.URL) -> sa.Engine:
    try:
        if url.get_backend_name() == "postgresql":
            return sa.create_engine(url, pool_pre_ping=True, isolation_level="READ COMMITTED")
        engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    except ModuleNotFoundError as error:
        raise QueueError(f"The driver of the queue's database, {error.name}, is not installed. psycopg comes "
                         'with the extra `judges`: pip install -e ".[judges]".') from error
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: Any) -> None:
    """Of each connection to SQLite: transactions begin where we say so, and a commit is on the disk."""
    connection.isolation_level = None
    write_ahead(connection, BUSY_SECONDS)
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: sa.Connection) -> None:
    """A transaction that writes takes SQLite's lock at once: one that took it later could not wait for it."""
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _reason(error: Exception) -> str:
    return " ".join(str(_origin(error)).split()).rstrip(".")


def _origin(error: Exception) -> Any:
    """What the driver raised; where no connection came free in time, there is nothing such."""
    return getattr(error, "orig", None) or error
