"""A few seconds of `make envs-crowd`, which also looks at memory and at how long calls take; and that it sees
what is not an episode's own."""
import contextlib

import pytest

from benchmarks.soak import server
from benchmarks.soak.envs import HELD
from benchmarks.soak.players import SERVED, Players
from benchmarks.soak.watch import THREADS, grown
from jaxrl_moe.envs import make_task
from jaxrl_moe.serving.envs.sessions import Sessions
from tests.helpers.env_servers import env_server
from tests.helpers.waiting import wait_until

WANTED = {"solved", "played plainly", "vanished", "left in a call", "mistaken", "megabyte refused",
          "too late"}
SPEC, DRAW = SERVED["textcraft"]


@contextlib.contextmanager
def playing(count=8):
    """(the url of a server, what it serves, its clients)."""
    with env_server(make_task(SPEC), idle_seconds=1.0) as (url, service):
        remote = make_task(f"agentgym(env='textcraft', url={url!r})")
        with contextlib.closing(remote), Players(url, count, make_task(SPEC), remote, DRAW) as players:
            yield url, service, players


def test_clients_that_vanish_and_err_mix_no_episodes_and_leave_no_session():
    with playing() as (url, service, players):
        wait_until(lambda: WANTED <= set(players.seen))
        players.__exit__()
        assert not players.problems and server.left(url, HELD) == []
        told = server.metrics(url)
    assert told["env_sessions_most"] == 256 and told['env_sessions_ended_total{why="expired"}'] > 0
    assert service.sessions.held == 0


def test_an_observation_of_another_episode_is_seen(monkeypatch):
    step = Sessions.step

    def mixed(sessions, number, text):
        return step(sessions, number, text)._replace(observation="Got 1 moon")
    monkeypatch.setattr(Sessions, "step", mixed)
    with playing(2) as (_, _, players):
        wait_until(lambda: players.problems)
    assert any("moon" in problem and "where its own has" in problem for problem in players.problems)


@pytest.mark.parametrize("connections, threads", [(0, THREADS), (128, THREADS + 128)])
def test_threads_may_grow_by_as_many_as_connections_come_and_go(connections, threads):
    assert grown({"threads": (10, 10 + threads)}, connections) == []
    assert grown({"threads": (10, 11 + threads)}, connections) == [f"threads grew from 10 to {11 + threads}"]
