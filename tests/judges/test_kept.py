"""Files that several processes open: verdicts that are kept, and what SQLite does not wait for by itself."""
import sqlite3

import pytest

from jaxrl_moe.judges import wal
from jaxrl_moe.judges.kept import KeptVerdicts
from jaxrl_moe.judges.queue.sql import SqlQueue
from jaxrl_moe.types import UserError
from tests.helpers.together import together

OPENERS = {"kept": lambda path: KeptVerdicts(str(path)), "queue": lambda path: SqlQueue(f"sqlite:///{path}")}


@pytest.mark.parametrize("kind", OPENERS)
def test_whoever_opens_a_new_file_at_once_shares_it(tmp_path, kind):
    for number in range(12):  # five of six who kept verdicts failed before, one in 160 of the queues
        together(6, lambda index, number=number: OPENERS[kind](tmp_path / f"{number}.db").close())


def test_a_file_is_turned_once_others_are_done(tmp_path):
    path = tmp_path / "busy.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    mine = sqlite3.connect(path, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        wal.write_ahead(mine, 0.05)
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            other.execute("COMMIT")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wal.time, "sleep", nap)
        wal.write_ahead(mine, 30)
    assert len(naps) == 3 and mine.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    mine.close()


def test_what_is_no_lock_is_not_waited_for(tmp_path):
    path = tmp_path / "text.db"
    path.write_text("no database " * 100)
    with pytest.raises(UserError, match="not a database"):
        KeptVerdicts(str(path))
    assert path.read_text().startswith("no database")
