"""The pool of processes, with processes that are none: how many there are, and who gets which."""
import threading
import time

import pytest

from jaxrl_moe.envs.text.sciworld.gateway import GatewayError, JavaFailure
from jaxrl_moe.envs.text.sciworld.jvm import JvmOptions
from jaxrl_moe.envs.text.sciworld.pool import Pool
from jaxrl_moe.types import EnvError, Status, UserError

OPTIONS = JvmOptions(heap_mb=64, timeout=10.0)


class Process:
    """Stands for a Jvm."""

    def __init__(self, options):
        self.lives = True
        self.pid = id(self)

    def kill(self):
        self.lives = False


def call(pool, holder):
    """The process that a holder's call is made in."""
    with pool.seat(holder) as seat:
        seat.holder = holder
        return seat.jvm


def test_a_holder_comes_back_to_its_process_and_the_one_left_alone_longest_is_lent_on():
    pool = Pool(2, OPTIONS, Process)
    first, second = call(pool, "a"), call(pool, "b")
    assert first is not second and pool.started == 2
    assert call(pool, "a") is first and call(pool, "b") is second and pool.moves == 2
    assert call(pool, "c") is first and call(pool, "a") is second
    pool.leave("c")
    assert call(pool, "d") is first and pool.started == 2 and len(pool.pids) == 2
    pool.close()
    pool.close()
    assert not first.lives and not second.lives
    with pytest.raises(UserError, match="closed"):
        call(pool, "a")


def test_a_process_that_died_between_two_calls_is_replaced():
    pool = Pool(1, OPTIONS, Process)
    first = call(pool, "a")
    first.kill()
    assert call(pool, "a") is not first and (pool.started, pool.lost) == (2, 1)


@pytest.mark.parametrize("error, status", [
    (TimeoutError(), Status.TIMED_OUT), (OSError(), Status.STEP_FAILED),
    (GatewayError("gone"), Status.STEP_FAILED)])
def test_a_call_that_fails_ends_its_process_and_is_the_environment_s_failure(error, status):
    pool = Pool(1, OPTIONS, Process)
    with pytest.raises(EnvError) as caught, pool.seat("a") as seat:
        raise error
    assert caught.value.status == status and not seat.jvm.lives and pool.lost == 1
    assert call(pool, "a") is not seat.jvm


@pytest.mark.parametrize("error", [JavaFailure("no"), ValueError("no")])
def test_an_error_of_another_kind_leaves_the_process_but_not_the_game(error):
    pool = Pool(1, OPTIONS, Process)
    process = call(pool, "a")
    with pytest.raises(type(error)), pool.seat("a") as seat:
        raise error
    assert seat.holder is None and call(pool, "b") is process


def test_no_more_are_at_work_than_there_may_be_and_nobody_is_forgotten():
    pool = Pool(3, OPTIONS, Process)
    at_work = set()
    most = []
    done = []

    def work(holder):
        for _ in range(20):
            with pool.seat(holder) as seat:
                assert seat not in at_work
                at_work.add(seat)
                most.append(len(at_work))
                time.sleep(0.0005)
                at_work.discard(seat)
                seat.holder = holder
        done.append(holder)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 8 and max(most) == pool.started == 3


def test_who_waits_too_long_is_told_so_and_a_process_that_does_not_begin_leaves_its_place():
    pool = Pool(1, JvmOptions(64, 0.05), Process)
    with pool.seat("a"), pytest.raises(EnvError, match="All 1 Java processes") as caught:
        call(pool, "b")
    assert caught.value.status == Status.TIMED_OUT

    def slow(options):
        raise TimeoutError
    pool = Pool(1, OPTIONS, slow)
    for _ in range(2):
        with pytest.raises(EnvError, match="did not begin within 10 s"):
            call(pool, "a")


def test_closing_ends_whoever_waits_and_what_has_just_begun():
    started = threading.Event()
    go_on = threading.Event()
    made = []

    def late(options):
        started.set()
        go_on.wait(10)
        made.append(Process(options))
        return made[-1]

    pool = Pool(1, OPTIONS, late)
    caught = []

    def ask(holder):
        try:
            call(pool, holder)
        except UserError as error:
            caught.append(str(error))

    threads = [threading.Thread(target=ask, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    started.wait(10)
    pool.close()
    go_on.set()
    for thread in threads:
        thread.join()
    assert caught == ["The task is closed: it plays no more."] * 2 and not made[0].lives
