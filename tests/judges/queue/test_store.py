"""Databases that cannot be the queue's are refused in words, without passwords; ids that are none are found
out before a database chokes on them."""
import subprocess
import sys

import pytest

from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.queue import QueueError
from jaxrl_moe.judges.queue.sql import SqlQueue
from jaxrl_moe.judges.queue.store import DatabaseFailed
from tests.helpers.judged import BY_RUBRIC, scored, work


@pytest.mark.parametrize("address, words", [
    ("sqlite://", "in memory"), ("sqlite:///:memory:", "in memory"), ("sqlite:///{}/none/q.db", "not exist"),
    ("sqlite:///{}/q.db?mode=ro", "none is known"), ("sqlite:///{}", "unable to open"),
    ("sqlite:///{}/garbage.db", "not a database"), ("mysql://h/x", "cannot be kept by 'mysql'"),
    ("postgresql+pg8000://h/x", "cannot be kept by"), ("queue.db", "none that SQLAlchemy reads"),
    ("postgresql://u:secret@127.0.0.1:1/x", r"u:\*\*\*@127.0.0.1:1/x failed: .*refused")])
def test_what_is_no_queue_is_refused_without_its_password(tmp_path, address, words):
    (tmp_path / "garbage.db").write_text("no database " * 100)
    with pytest.raises(QueueError, match=words) as refused:
        SqlQueue(address.format(tmp_path))
    assert "secret" not in str(refused.value)


def test_a_queue_of_other_tables_or_another_version_is_refused(opened, url):
    queue = opened()
    queue.store.write(lambda connection: connection.execute(sa.update(tables.schema).values(version=99)))
    with pytest.raises(QueueError, match="version 99"):
        SqlQueue(url)
    queue.store.write(lambda connection: tables.verdicts.drop(connection))
    with pytest.raises(QueueError, match="other tables"):
        SqlQueue(url)


@pytest.mark.parametrize("name", ["\ud800", "\0", "nothing", "\u00e9"])
def test_ids_and_tokens_that_are_none_are_told_as_such(opened, name):
    queue = opened()
    queue.add_judge("ann")
    for call in (queue.state, queue.work, lambda item: queue.drop(item, "")):
        with pytest.raises(KeyError):
            call(name)
    for call in (queue.give_back, queue.skip, queue.postpone,
                 lambda judge, token: queue.answer(judge, token, scored())):
        with pytest.raises(QueueError, match="no such lease"):
            call("ann", name)
    with pytest.raises(QueueError):
        queue.lease(name, 60)
    assert queue.login(name) is None


def test_a_database_that_is_away_for_a_while_is_waited_for(tmp_path, monkeypatch):
    queue = SqlQueue(f"sqlite:///{tmp_path}/q.db")
    item = queue.put(work(1), BY_RUBRIC)
    read = queue.store.read
    fails = [True, True]

    def sometimes(reads):
        if fails and fails.pop(0):
            raise DatabaseFailed("It is away.")
        return read(reads)
    monkeypatch.setattr(queue.store, "read", sometimes)
    with pytest.raises(DatabaseFailed):
        queue.wait(item, 0)
    queue.wait(item, 0.3)
    assert not fails
    queue.close()


@pytest.mark.parametrize("options, words", [({"overlap": 0}, "overlap"), ({"gold_share": 1.5}, "gold_share")])
def test_settings_that_make_no_sense_are_refused(tmp_path, options, words):
    with pytest.raises(QueueError, match=words):
        SqlQueue(f"sqlite:///{tmp_path}/q.db", **options)


def test_without_sqlalchemy_the_extra_is_named():
    code = ("import sys; sys.modules['sqlalchemy'] = None\n"
            "import jaxrl_moe.judges.queue.queue\n"  # what the page needs of it
            "import jaxrl_moe.judges.queue.sql")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UserError" in done.stderr and 'pip install -e ".[judges]"' in done.stderr
