"""Sessions: how many there are, whom they wait for, and how they end."""
import concurrent.futures
import dataclasses
import threading
import time
from typing import ClassVar

import pytest

from jaxrl_moe.serving.envs.session import text_of
from jaxrl_moe.serving.envs.sessions import Sessions
from jaxrl_moe.types import UserError
from tests.helpers.games import Guessing
from tests.helpers.waiting import wait_until

ROW = {"id": 3}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def game():
    game = Guessing()
    yield game
    game.go.set()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(game, clock):
    sessions = Sessions(game, most=4, idle_seconds=100, clock=clock)
    yield sessions
    sessions.close()


def test_a_session_shows_its_own_episode_and_sums_its_rewards(sessions):
    numbers = [sessions.create({"id": number})[0] for number in range(3)]
    assert len(set(numbers)) == 3
    for number, session in reversed(list(enumerate(numbers))):
        assert sessions.look(session).observation == f"Game {number}: guess."
        assert sessions.step(session, "100").observation == f"Game {number}: less than 100."
        last = sessions.step(session, f"Action: {number}")
        assert (last.reward, last.score, last.done) == (1, 1.25, True)
        assert last.info == {"correct": 1, "guesses": 2} and last.achieved == ("found",)
        with pytest.raises(UserError, match="has ended: reset the session, or close it"):
            sessions.step(session, "1")
        assert sessions.reset(session, ROW).score == 0 and sessions.step(session, "3").done


def test_every_session_ends_and_gives_back_what_it_holds(game, sessions):
    number, shown = sessions.create()
    assert shown is None and sessions.open == sessions.held == 1
    for call in (sessions.look, lambda number: sessions.step(number, "1")):
        with pytest.raises(UserError, match="has no episode: reset it first"):
            call(number)
    sessions.reset(number, ROW)
    sessions.reset(number, ROW)
    assert (game.opened, game.closed) == (2, 1)
    sessions.end(number)
    assert (game.opened, game.closed, sessions.open, sessions.held) == (2, 2, 0, 0)
    for call in (sessions.look, sessions.end, lambda number: sessions.reset(number, ROW)):
        with pytest.raises(UserError, match=f"no session {number} here: it was closed, has expired"):
            call(number)


def test_beyond_the_limit_there_is_no_room_until_one_ends_or_expires(game, sessions, clock):
    numbers = [sessions.create(ROW)[0] for _ in range(4)]
    with pytest.raises(UserError, match="All 4 sessions of this server are taken"):
        sessions.create()
    sessions.end(numbers[0])
    sessions.create()
    clock.now = 60
    sessions.step(numbers[1], "5")
    clock.now = 101
    sessions.create()  # those that were idle since 0 have gone
    assert sessions.open == 2 and sessions.ended == {"closed": 1, "expired": 3} and game.closed == 3
    assert sessions.look(numbers[1]).observation == "Game 3: less than 5."


def test_a_session_expires_though_nobody_asks(game):
    sessions = Sessions(game, idle_seconds=0.1)
    sessions.create(ROW)
    wait_until(lambda: sessions.held == 0)
    assert sessions.ended == {"expired": 1} and game.closed == 1
    sessions.close()


def test_a_row_that_gives_no_episode_leaves_the_session_as_it_was(game, sessions):
    number, _ = sessions.create(ROW)
    for row in ({"id": 100}, {"id": -1}, {}):
        with pytest.raises(UserError, match="There is no game .*numbered from 0 to 99"):
            sessions.reset(number, row)
        with pytest.raises(UserError, match="There is no game"):
            sessions.create(row)
    assert sessions.step(number, "3").done and sessions.held == 1


@pytest.mark.parametrize("word, told", [
    ("crash", r"could not take the action: KeyError: 'the board' \(games.py, line \d+\)"),
    ("nan", "could not take the action: it gives a reward of nan, which is no finite number")])
def test_an_environment_that_fails_is_told_in_a_sentence_and_begins_anew(game, sessions, word, told):
    number, _ = sessions.create(ROW)
    with pytest.raises(UserError, match=told) as failed:
        sessions.step(number, word)
    assert "\n" not in str(failed.value) and game.closed == 1
    with pytest.raises(UserError, match="has no episode"):
        sessions.step(number, "3")
    sessions.reset(number, ROW)
    assert sessions.step(number, "3").done


def test_a_slow_session_holds_nobody_else_and_takes_one_call_at_a_time(game, sessions, clock):
    slow, quick = sessions.create(ROW)[0], sessions.create(ROW)[0]
    waiting = sessions.pool.submit(sessions.step, slow, "wait")
    wait_until(lambda: game.waiting == 1)
    for call in (sessions.look, lambda number: sessions.step(number, "1")):
        with pytest.raises(UserError, match=f"Session {slow} is at work on another call"):
            call(slow)
    assert sessions.step(quick, "3").done
    clock.now = 1000
    sessions.expire()  # one that is at work is not idle
    assert sessions.open == 1 and sessions.held == 1
    sessions.end(slow)  # its environment is closed when the call has come back
    assert sessions.open == 0 and sessions.held == 1 and game.closed == 1
    game.go.set()
    assert "no number" in waiting.result(10).observation
    wait_until(lambda: sessions.held == 0)
    assert game.closed == 2 and sessions.ended == {"expired": 1, "closed": 1}


def test_many_threads_mix_nothing_and_leak_nothing(game):
    sessions = Sessions(game, most=16)

    def play(number):
        session, shown = sessions.create({"id": number})
        seen = [shown.observation, *(sessions.step(session, str(guess)).observation for guess in (98, 0))]
        sessions.end(session)
        return seen == [f"Game {number}: guess.", f"Game {number}: less than 98.",
                        f"Game {number}: more than 0."]

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        assert all(threads.map(play, [1 + number % 90 for number in range(400)]))
    assert sessions.held == 0 and game.opened == game.closed == 400
    sessions.close()


def test_the_end_closes_all_sessions_and_waits_for_none_that_hangs(game):
    sessions = Sessions(game)
    sessions.create(ROW)
    stuck, _ = sessions.create(ROW)
    waiting = sessions.pool.submit(sessions.step, stuck, "wait")
    wait_until(lambda: game.waiting == 1)
    began = time.monotonic()
    sessions.close(grace=0.1)
    assert time.monotonic() - began < 30 and sessions.open == 0 and sessions.held == 1 and game.closed == 1
    with pytest.raises(UserError, match="The server is ending"):
        sessions.create()
    sessions.close()
    game.go.set()
    waiting.result(10)
    wait_until(lambda: game.closed == 2)


@dataclasses.dataclass
class Alone(Guessing):
    """Of which one thread may hold the episodes."""
    concurrent: ClassVar[bool] = False

    def open(self, row, seed):
        self.threads = {*getattr(self, "threads", ()), threading.get_ident()}
        return super().open(row, seed)


def test_a_task_that_bears_no_threads_is_used_by_one():
    game = Alone()
    sessions = Sessions(game)
    futures = [sessions.pool.submit(sessions.create, ROW) for _ in range(20)]
    assert all(future.result(10)[1].observation == "Game 3: guess." for future in futures)
    assert len(game.threads) == 1 and threading.get_ident() not in game.threads
    sessions.close()
    assert game.closed == 20


@pytest.mark.parametrize("messages", [
    ({"role": "system", "content": "a"},), ({"role": "user", "content": ["a"]},),
    ({"role": "user", "content": "a"}, {"role": "user", "content": "b"}),
    ({"role": "user", "content": "a", "name": "b"},)])
def test_what_agentgym_cannot_tell_is_refused(messages):
    assert text_of(()) == "" and text_of(({"role": "user", "content": "a"},)) == "a"
    with pytest.raises(ValueError, match="AgentGym's protocol tells one text of the user"):
        text_of(messages)
