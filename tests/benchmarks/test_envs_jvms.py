"""What `make envs-jvms` looks for is seen; and, where there is time and Java, a few seconds of it."""
import itertools
import time

import pytest

from benchmarks.soak import jvms
from jaxrl_moe.types import EnvError, Status
from tests.helpers import sciworld
from tests.helpers.waiting import wait_until

ALONE = [[("seen", index)] for index in range(len(jvms.ROWS))]


def watched_players(monkeypatch, play):
    """Players of a task that is none, after some time."""
    monkeypatch.setattr(jvms, "played", play)
    players = jvms.Players(None, ALONE, [[]] * len(ALONE))
    with players.playing(3):
        wait_until(lambda: len(players.took) > 20 or players.problems)
    return players


def test_an_episode_that_goes_otherwise_than_alone_is_seen(monkeypatch):
    numbers = itertools.count()

    def play(task, index, commands):
        time.sleep(0.001)
        return ALONE[index - (next(numbers) == 10)]

    assert "went otherwise than alone" in watched_players(monkeypatch, play).problems.pop()
    well = watched_players(monkeypatch, lambda task, index, commands: time.sleep(0.001) or ALONE[index])
    assert not well.problems and not well.seen


def test_an_episode_that_fails_without_a_kill_is_seen(monkeypatch):
    def play(task, index, commands):
        raise EnvError(Status.STEP_FAILED, "gone")

    assert watched_players(monkeypatch, play).problems == {"an episode failed: gone"}


@pytest.mark.parametrize("lost, most, largest, failed, wrong", [
    (2, 100, 50, 2, ""), (1, 100, 50, 0, ""), (0, 100, 50, 0, "0 processes were missed, and 2 killed"),
    (3, 100, 50, 0, "3 processes were missed"), (2, 201, 50, 0, "all processes took 201 MiB"),
    (2, 150, 101, 0, "a process took 101 MiB"), (2, 9, 9, 3, "3 episodes failed, and 2 ")])
def test_memory_and_numbers_of_processes_have_bounds(lost, most, largest, failed, wrong):
    players = jvms.Players(None, ALONE, [])
    players.took = [1.0]
    players.seen.update(killed=2, failed=failed)
    problems = jvms._wrong(players, lost, most, largest, bound=100, jvms=2)
    assert problems == set() if not wrong else len(problems) == 1 and wrong in problems.pop()


@pytest.mark.slow
def test_a_minute_of_it_goes_well():
    sciworld.task().close()
    row, problems = jvms.soaked(count=4, jvms=2, seconds=40, kill_every=15)
    assert not problems and len(row) == len(jvms.HEADER)
