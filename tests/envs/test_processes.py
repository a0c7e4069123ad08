"""Programs over pipes: answers, and what happens where none comes."""
import concurrent.futures
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from jaxrl_moe.envs.processes import Worker, WorkerError, WorkerPool, WorkerStartError

PROGRAM = """
import json, os, sys, time
print("{}", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    time.sleep(asked.get("sleep", 0))
    if "exit" in asked:
        os._exit(asked["exit"])
    print(asked.get("say") or json.dumps({"pid": os.getpid(), "text": asked.get("text")}), flush=True)
"""
COMMAND = [sys.executable, "-S", "-c", PROGRAM]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_a_program_answers_request_after_request():
    worker = Worker(COMMAND)
    pids = set()
    for text in ("a", "\n\"\ud800", "x" * 10**5):
        answer = worker.ask({"text": text}, 30)
        assert answer.values["text"] == text
        pids.add(answer.values["pid"])
    worker.kill()
    worker.kill()
    assert len(pids) == 1 and not is_alive(*pids)


@pytest.mark.parametrize("request_, seconds, timed_out, told", [
    ({"sleep": 60}, 0.2, True, "took too long"), ({"exit": 3}, 30, False, "has ended"),
    ({"say": "no JSON"}, 30, False, "is no JSON"), ({"say": "[1]"}, 30, False, "a list"),
    ({"say": "x" * 2**21}, 30, False, "wrote too much")])
def test_one_that_does_not_answer_is_killed_and_replaced(request_, seconds, timed_out, told):
    with WorkerPool(COMMAND, 1) as pool:
        first = pool.ask({}, 30).values["pid"]
        with pytest.raises(WorkerError, match=told) as error:
            pool.ask(request_, seconds)
        assert error.value.timed_out == timed_out and not is_alive(first)
        second = pool.ask({}, 30).values["pid"]
        assert second != first and second == pool.ask({}, 30).values["pid"]


def test_one_that_was_killed_from_outside_is_replaced():
    with WorkerPool(COMMAND, 1) as pool:
        first = pool.ask({}, 30).values["pid"]
        os.kill(first, 9)
        with pytest.raises(WorkerError, match="has ended"):
            pool.ask({}, 30)
        assert pool.ask({}, 30).values["pid"] != first


def test_threads_share_no_more_programs_than_the_pool_has():
    with WorkerPool(COMMAND, 2) as pool, concurrent.futures.ThreadPoolExecutor(8) as threads:
        asked = [{"text": number, "sleep": 0.01} for number in range(40)]
        answers = list(threads.map(lambda each: pool.ask(each, 30).values, asked))
        assert [answer["text"] for answer in answers] == list(range(40))
        pids = {answer["pid"] for answer in answers}
        assert len(pids) <= 2
    assert not any(map(is_alive, pids))


def test_closing_ends_programs_that_are_asked_and_refuses_further_requests():
    pool = WorkerPool(COMMAND, 2)
    pids = [pool.ask({}, 30).values["pid"]]
    failed = []

    def wait():
        with pytest.raises(WorkerError) as error:
            pool.ask({"sleep": 60}, 90)
        failed.append(error.value.timed_out)

    waiting = [threading.Thread(target=wait) for _ in range(4)]  # two of them wait for a program
    for thread in waiting:
        thread.start()
    time.sleep(0.5)
    pool.close()
    pool.close()
    for thread in waiting:
        thread.join(30)
    assert failed == [False] * 4 and not any(map(is_alive, pids))
    with pytest.raises(WorkerError, match="closed"):
        pool.ask({}, 30)


@pytest.mark.parametrize("command", [["/no/such/program"], [sys.executable, "-c", "raise SystemExit(2)"],
                                     [sys.executable, "-c", "import time; time.sleep(60)"]])
def test_a_program_that_is_not_ready_is_told_with_its_command(command):
    with pytest.raises(WorkerStartError, match="cannot be started: .*Run it to see why"):
        Worker(command, start_seconds=1.0)


def test_a_program_ends_with_the_process_that_started_it():
    script = textwrap.dedent(f"""
        from jaxrl_moe.envs.processes import WorkerPool
        import os
        pool = WorkerPool({COMMAND!r}, 1)
        print(pool.ask({{}}, 30).values["pid"], flush=True)
        os._exit(0)
    """)
    pid = int(subprocess.check_output([sys.executable, "-c", script], text=True, timeout=600))
    end = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_alive(pid)
