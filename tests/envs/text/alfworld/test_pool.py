"""The processes that play ALFWorld's games: shared, replaced when they fail, and ended with us."""
import os
import signal
import threading
import time

import pytest

from jaxrl_moe.envs.text.alfworld.pool import GamePool
from jaxrl_moe.partials import runs
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.fake_alfworld import python_of


@pytest.fixture
def pool(tmp_path):
    made = GamePool((python_of(tmp_path),), workers=2, seconds=20)
    yield made
    made.close()


def begun(pool):
    play = pool.open()
    play.begin({"problem": ""})
    return play


def pid_of(play):
    return int(play.step("look").observation.split()[1].rstrip(":"))


def gone(pid, seconds=10):
    end = time.monotonic() + seconds
    while runs(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not runs(pid)


def test_games_are_shared_out_evenly_among_as_many_processes_as_there_may_be(pool):
    plays = [begun(pool) for _ in range(4)]
    pids = [pid_of(play) for play in plays]
    assert len(set(pids)) == 2 and sorted(map(pids.count, pids)) == [2, 2, 2, 2]
    plays[0].end()
    assert pid_of(begun(pool)) == pids[0]


def test_the_first_process_serves_until_two_games_are_open_at_once(pool):
    pids = set()
    for _ in range(3):
        play = begun(pool)
        pids.add(pid_of(play))
        play.end()
    assert len(pids) == 1


@pytest.mark.parametrize("command, status, told", [
    ("die", Status.STEP_FAILED, "has ended with 3. It said: the last words"),
    ("close", Status.STEP_FAILED, "has ended with -9"),
    ("say garbage", Status.MALFORMED, "is no JSON"),
    ("say a list", Status.MALFORMED, "a JSON object is needed"),
    ("say NaN", Status.MALFORMED, "NaN"), ("say no actions", Status.MALFORMED, "a list of strings is needed"),
    ("say no end", Status.MALFORMED, "observation is 7"), ("say much", Status.MALFORMED, "bytes")])
def test_a_process_that_fails_is_ended_and_replaced(pool, command, status, told):
    play = begun(pool)
    beside = begun(pool)
    sharing = [begun(pool) for _ in range(2)][0]
    pids = [pid_of(play), pid_of(beside)]
    assert pid_of(sharing) == pids[0]
    with pytest.raises(EnvError, match=told) as raised:
        play.step(command)
    assert raised.value.status == status and gone(pids[0])
    with pytest.raises(EnvError, match="has ended") as raised:  # the other game of the same process
        sharing.step("look")
    assert raised.value.status == Status.STEP_FAILED
    play.end()
    assert pid_of(beside) == pids[1]
    assert pid_of(begun(pool)) not in pids


def test_a_process_that_hangs_is_ended_in_time(tmp_path):
    pool = GamePool((python_of(tmp_path),), workers=1, seconds=3)
    play = begun(pool)
    pid = pid_of(play)
    began = time.monotonic()
    with pytest.raises(EnvError, match="has not answered in 3 s, and was ended") as raised:
        play.step("hang")
    assert raised.value.status == Status.TIMED_OUT and time.monotonic() - began < 10 and gone(pid)
    assert pid_of(begun(pool)) != pid
    pool.close()


def test_what_a_process_refuses_costs_the_one_game_alone(pool):
    play = begun(pool)
    pid = pid_of(play)
    with pytest.raises(EnvError, match=r"cannot: ValueError: no\\x07 such thing"):
        play.step("fail")
    assert pid_of(play) == pid


def test_a_process_that_is_killed_from_outside_is_replaced(pool):
    play = begun(pool)
    pid = pid_of(play)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    with pytest.raises(EnvError, match="has ended with -9"):
        play.step("look")
    assert pid_of(begun(pool)) != pid


def test_many_threads_play_at_once_and_no_game_is_mixed_with_another(pool):
    failures = []

    def played():
        play = begun(pool)
        pid = pid_of(play)
        for turn in range(30):
            if not play.step("go to door 1").observation == f"pid {pid}: go to door 1":
                failures.append(turn)
        play.end()

    threads = [threading.Thread(target=played) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(process.episodes for process in pool._processes) in ([0], [0, 0])


def test_a_pool_ends_its_processes_also_those_at_work(pool):
    play = begun(pool)
    pid = pid_of(play)
    raised = []

    def hang():
        try:
            play.step("hang")
        except EnvError as error:
            raised.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    time.sleep(0.1)
    pool.close()
    thread.join(10)
    assert gone(pid) and len(raised) == 1
    pool.close()
    with pytest.raises(UserError, match="closed"):
        pool.open()
    with pytest.raises(EnvError):
        play.step("look")
    play.end()


def test_what_cannot_be_started_is_said(tmp_path):
    with pytest.raises(EnvError, match="cannot be started by .*: No such file"):
        GamePool((str(tmp_path / "none"),), 1, 5).open()


def test_processes_end_with_us_however_we_end(tmp_path):
    read, write = os.pipe()
    ours = os.fork()
    if not ours:  # nothing but this, so that what pytest holds is left alone
        try:
            play = begun(GamePool((python_of(tmp_path),), 1, 20))
            os.write(write, str(pid_of(play)).encode())
            time.sleep(600)
        finally:
            os._exit(1)
    os.close(write)
    pid = int(os.read(read, 20))
    os.close(read)
    assert runs(pid)
    os.kill(ours, signal.SIGKILL)
    os.waitpid(ours, 0)
    assert gone(pid)
