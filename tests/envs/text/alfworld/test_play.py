"""Games at workers, with one that stands for the package's: what it may tell, and what it sees of us."""
import pytest

from jaxrl_moe.envs.text.alfworld.play import Play, game_workers
from jaxrl_moe.partials import runs
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.fake_alfworld import python_of
from tests.helpers.waiting import wait_until


@pytest.fixture
def pool(tmp_path):
    made = game_workers(python_of(tmp_path), 2, 20)
    yield made
    made.close()


def begun(pool, seconds=20):
    play = Play(pool, seconds)
    play.begin({"problem": ""})
    return play


def pid_of(play):
    return int(play.step("look").observation.split()[1].rstrip(":"))


def test_games_are_shared_out_evenly_and_an_ended_one_makes_room(pool):
    plays = [begun(pool) for _ in range(4)]
    pids = [pid_of(play) for play in plays]
    assert len(set(pids)) == 2 and sorted(map(pids.count, pids)) == [2, 2, 2, 2]
    plays[0].end()
    plays[0].end()
    assert pid_of(begun(pool)) == pids[0]
    pool.close()
    with pytest.raises(UserError, match="closed"):
        begun(pool)
    with pytest.raises(EnvError):
        plays[1].step("look")
    plays[1].end()
    Play(pool, 20).end()


@pytest.mark.parametrize("command, told", [
    ("say no actions", "a list of strings is needed"), ("say no text", "observation is 7")])
def test_a_worker_that_tells_what_no_game_does_is_ended_and_replaced(pool, command, told):
    play, beside, sharing = (begun(pool) for _ in range(3))
    pids = [pid_of(play), pid_of(beside)]
    assert pid_of(sharing) == pids[0]
    with pytest.raises(EnvError, match=told) as raised:
        play.step(command)
    assert raised.value.status == Status.MALFORMED
    wait_until(lambda: not runs(pids[0]), 10)
    with pytest.raises(EnvError, match="has ended") as raised:  # the other game of the same worker
        sharing.step("look")
    assert raised.value.status == Status.STEP_FAILED
    play.end()
    assert pid_of(beside) == pids[1]
    assert pid_of(begun(pool)) not in pids


def test_a_worker_that_hangs_is_ended_in_the_time_that_the_setting_seconds_gives(tmp_path):
    pool = game_workers(python_of(tmp_path), 1, 20)
    play = begun(pool, seconds=3)
    pid = pid_of(play)
    with pytest.raises(EnvError, match="did not answer `step` within 3 s.* the setting seconds") as raised:
        play.step("hang")
    assert raised.value.status == Status.TIMED_OUT
    wait_until(lambda: not runs(pid), 10)
    assert pid_of(begun(pool)) != pid
    pool.close()


def test_what_a_worker_refuses_costs_the_command_alone(pool):
    play = begun(pool)
    pid = pid_of(play)
    with pytest.raises(EnvError, match=r"ALFWorld failed in `step`: ValueError: no\\x07 such thing"):
        play.step("fail")
    assert pid_of(play) == pid


def test_a_worker_sees_none_of_our_secrets_and_packages_and_hashes_texts_as_every_other(pool, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    made = game_workers(pool._launch.python, 1, 20)
    seen = begun(made).step("environment").observation.split("\n")
    made.close()
    assert {"PYTHONHASHSEED=0", "PYTHONUNBUFFERED=1", "PYTHONNOUSERSITE=1", "LC_ALL=C.UTF-8"} <= set(seen)
    assert not any(line.startswith(("SOME_API_KEY", "PYTHONPATH")) for line in seen)
