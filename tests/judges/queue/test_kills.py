"""Whoever works on the queue may be killed at any moment: nothing that a call returned from is lost, nothing
is judged twice. And whoever works at the same time takes no item from another."""
import collections
import json
import os
import pathlib
import random
import subprocess
import sys
import time

import pytest

from jaxrl_moe.judges.queue.sql import SqlQueue
from tests.helpers.judged import BY_RUBRIC, MINUTES, PAIRWISE, best_first, group, number_of, scored, work
from tests.helpers.together import together

ROOT = pathlib.Path(__file__).resolve().parents[3]
KILLS = 12


def start(role, url, log, name):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "tests.helpers.queue_worker", role, url, str(log), name],
                            cwd=ROOT, env=environment)


def rows(log):
    """What a process wrote whole."""
    text = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]


@pytest.mark.slow
def test_what_was_committed_survives_kills_and_is_judged_once(url, tmp_path):
    queue = SqlQueue(url)
    for name in ("ann", "bob"):
        queue.add_judge(name)
    dice = random.Random(0)
    logs = {name: tmp_path / f"{name}.jsonl" for name in ("put", "ann", "bob")}

    def begin(name):
        if name != "put":
            return start("judge", url, logs[name], name)
        last = max((row["number"] for row in rows(logs["put"])), default=0)
        return start("put", url, logs[name], str(last))

    workers = {name: begin(name) for name in logs}
    try:
        for kill in range(KILLS):
            name = list(logs)[kill % 3]
            before = len(rows(logs[name]))
            deadline = time.monotonic() + 60
            while len(rows(logs[name])) < before + 3:  # it works, whatever the machine does
                assert time.monotonic() < deadline and workers[name].poll() is None
                time.sleep(0.01)
            time.sleep(dice.random() * 0.2)
            workers[name].kill()
            workers[name].wait()
            workers[name] = begin(name)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    handed_in = {row["put"]: row["number"] for row in rows(logs["put"])}
    for name in ("ann", "bob"):
        while lease := queue.lease(name, MINUTES):
            queue.answer(name, lease.token, scored(number_of(lease.works[0]) % 100 / 100))
    for item, number in handed_in.items():
        verdict = queue.state(item).verdict
        assert verdict.scores["layout"] == number % 100 / 100
        assert len(json.loads(verdict.raw)) == 1
    told = [row["answered"] for name in ("ann", "bob") for row in rows(logs[name]) if "answered" in row]
    assert len(told) == len(set(told)) and len(told) > KILLS
    assert not [row for name in ("ann", "bob") for row in rows(logs[name]) if "refused" in row]
    answered = sum(queue.progress(name).answered for name in ("ann", "bob"))
    done = queue.progress("ann").done
    assert answered == done >= len(handed_in) and queue.agreement().items == 0
    queue.close()


def test_queues_that_open_at_once_make_the_tables_once(url):
    together(6, lambda index: SqlQueue(url).close())
    queue = SqlQueue(url)
    assert queue.progress("").waiting == 0
    queue.close()


@pytest.mark.parametrize("overlap", [1, 2])
def test_judges_who_lease_at_once_never_exceed_the_overlap(url, overlap):
    queues = [SqlQueue(url, overlap=overlap) for _ in range(4)]
    for index in range(4):
        queues[0].add_judge(str(index))
    for number in range(8):
        queues[0].put(work(number), BY_RUBRIC)
    held = collections.defaultdict(list)

    def lease(index):
        while lease := queues[index].lease(str(index), MINUTES):
            held[lease.item].append(index)
            queues[index].answer(str(index), lease.token, scored())
    together(4, lease)
    assert len(held) == 8 and all(len(set(judges)) == len(judges) == overlap for judges in held.values())
    assert queues[0].progress("0").done == 8
    for queue in queues:
        queue.close()


def test_works_of_a_group_that_come_at_once_are_compared_once_each(url):
    queues = [SqlQueue(url) for _ in range(4)]
    works = group(4)
    items = [""] * 4

    def put(index):
        items[index] = queues[index].put(works[index], PAIRWISE)
    together(4, put)
    queues[0].add_judge("ann")
    leases = []
    while lease := queues[0].lease("ann", MINUTES):
        leases.append(lease)
        queues[0].answer("ann", lease.token, best_first(lease))
    assert len(leases) == 6
    assert [queues[0].state(item).verdict.reward for item in items] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    for queue in queues:
        queue.close()


def test_answers_that_come_at_once_settle_the_item_they_share(url):
    queues = [SqlQueue(url) for _ in range(3)]
    for index in range(3):
        queues[0].add_judge(str(index))
    items = [queues[0].put(each, PAIRWISE) for each in group(3)]
    leases = [queues[index].lease(str(index), MINUTES) for index in range(3)]

    def answer(index):
        queues[index].answer(str(index), leases[index].token, best_first(leases[index]))
    together(3, answer)
    assert [queues[0].state(item).verdict.reward for item in items] == [0, 0.5, 1]
    for queue in queues:
        queue.close()
