"""Queues in SQLite, and in a PostgreSQL server of these tests' own."""
import itertools
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

import pytest

from jaxrl_moe.judges.queue.sql import SqlQueue

USER = "nobody"  # PostgreSQL refuses root
BINARIES = ("/usr/lib/postgresql/15/bin", *os.environ["PATH"].split(os.pathsep))
_numbers = itertools.count()


def _binary(name):
    return next((str(path) for path in (pathlib.Path(folder) / name for folder in BINARIES) if path.exists()),
                None)


@pytest.fixture(scope="session")
def postgres():
    """The URL of a server on a Unix socket; None where PostgreSQL is not installed."""
    if _binary("initdb") is None or _binary("pg_ctl") is None:
        yield None
        return
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # sockets have short paths
    options = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": "/"}
    if os.geteuid() == 0:
        owner = pwd.getpwnam(USER)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        options |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    data = folder / "data"
    subprocess.run([_binary("initdb"), "-D", data, "-A", "trust", "-U", "judge", "--no-sync"], **options)
    settings = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    subprocess.run([_binary("pg_ctl"), "-D", data, "-w", "-l", folder / "log", "-o", settings, "start"],
                   **options)
    yield f"postgresql+psycopg://judge@/postgres?host={folder}"
    subprocess.run([_binary("pg_ctl"), "-D", data, "-m", "immediate", "stop"], **options)
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """Of a queue of this test's own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'queue.db'}"
    server = request.getfixturevalue("postgres")
    if server is None:
        pytest.skip("PostgreSQL is not installed")
    import psycopg
    name = f"queue_{next(_numbers)}"  # a schema, since to make a database takes long
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{server}&options=-csearch_path={name}"


class Clock:
    """A clock that tests set."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(url, clock):
    """Opens queues at this test's URL."""
    queues = []

    def open_queue(**options):
        queues.append(SqlQueue(url, **({"clock": clock} | options)))
        return queues[-1]
    yield open_queue
    for queue in queues:
        queue.close()


@pytest.fixture
def queue(opened):
    queue = opened()
    for name in ("ann", "bob", "cat"):
        queue.add_judge(name)
    return queue
