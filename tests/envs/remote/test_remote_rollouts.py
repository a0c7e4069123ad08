"""Episodes that an environment server plays by POST /rollouts: what it is asked, what its answers mean, and
every failure by its name."""
import contextlib
import copy
import threading

import pytest

from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.remote.remote_rollouts import RemoteRollouts
from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.types import EnvError, Status, Step, UserError
from tests.helpers.fake_task_app import ModelsOnly
from tests.helpers.games import Guessing
from tests.helpers.json_server import json_server
from tests.helpers.rollout_servers import answering, rollout_server
from tests.helpers.waiting import wait_until

TALK = [{"role": "system", "content": "Guess."}, {"role": "assistant", "content": "OK."},
        {"role": "user", "content": "Game 7."}, {"role": "assistant", "content": "9", "reward": 0.25,
                                                 "achieved": ["tried"]},
        {"role": "user", "content": "Less."}, {"role": "assistant", "content": "7", "reward": 1}]
DETAIL = {"id": 7, "reward": 1.25, "success": True, "truncated": False, "info": {"guesses": 2},
          "notes": {"judge": "nobody"}, "experiences": TALK}
ANSWER = {"task_name": "guessing", "total_score": 1.25, "success_rate": 1.0, "num_evaluated": 1,
          "time_taken": 0.5, "details": [DETAIL]}


@pytest.fixture(scope="module")
def base_url():
    """Of a session that has never drawn anything."""
    with ModelsOnly() as server:
        yield f"{server.url}/sessions/1/v1"


@contextlib.contextmanager
def serving(answer=ANSWER, **settings):
    """(task, what the server was asked) of a server that gives an answer, or (status, answer)."""
    with answering(answer, "guessing") as (url, asked):
        with contextlib.closing(RemoteRollouts(url, "guessing", **settings)) as task:
            yield task, asked


def played(task, base_url, number=7):
    return task.open({"id": number}, 0).play(base_url)


@pytest.mark.parametrize("settings, reason", [
    ("", "needs the setting 'url'"), ("url='http://a'", "needs the setting 'env'"),
    ("url='a:1', env='e'", "url = 'a:1' is no address"), ("url='http://a, b', env='e'", "url = 'b' is no"),
    ("url='http://a', env=' '", "env is empty"),
    ("url='http://a', env='e', max_round=0", "max_round = 0 is out of range: it must be at least 1"),
    ("url='http://a', env='e', timeout=0", "timeout = 0 is out of range: it must be above 0"),
    ("url='http://a', env='e', patience=-1", "patience = -1 is out of range"),
    ("url='http://a', env='e', max_concurrent_rollouts=-1", "out of range: it must be at least 0"),
    ("url='http://a', env='e', api_key_env='NOWHERE'", "NOWHERE.* not set"),
    ("url='http://a', env='e', max_turns=3", "max_turns")])
def test_settings_that_cannot_be_are_refused(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        make_task(f"remote_rollouts({settings})")


@pytest.mark.parametrize("row", [{}, {"id": -1}, {"id": "7"}, {"item_id": "textcraft_7"}, {"id": True}])
def test_a_row_needs_the_number_of_an_episode(row):
    with pytest.raises(UserError, match="number of an episode"):
        RemoteRollouts("http://a", "guessing").check_row(row, 0)


def test_an_episode_is_asked_for_as_the_contract_has_it(base_url):
    with serving(max_round=3) as (task, asked):
        played(task, base_url)
        task.open({"item_id": "guessing_7"}, 0).play(base_url)
    for call in asked:
        assert call.path == "/rollouts" and "Authorization" not in call.headers
        assert call.body == {"env": "guessing", "model": "policy", "base_url": base_url, "ids": [7],
                             "max_round": 3}


def test_no_more_turns_are_asked_for_than_the_session_has():
    card = {"id": "policy", "sampling": {"max_calls": 2}}

    def answer(path, *_):
        return {"data": [card]} if path.endswith("/models") else ANSWER
    with json_server(answer) as (url, asked), contextlib.closing(RemoteRollouts(url, "guessing")) as task:
        played(task, f"{url}/sessions/1/v1")
        assert asked[-1].body["max_round"] == 2 and task.max_turns == 20


def test_each_turn_gets_its_reward_and_the_last_what_came_of_the_whole(base_url):
    with serving() as (task, _):
        first, last = played(task, base_url)
    assert first == Step(0.25, False, achieved=("tried",))
    assert last == Step(1.0, True, {"guesses": 2, "correct": 1}, notes={"judge": "nobody"})


def test_an_episode_may_be_rewarded_as_a_whole(base_url):
    answer = {**ANSWER, "details": [{"id": 7, "reward": 2, "truncated": True}]}
    with serving(answer, by_calls=False) as (task, _):
        assert played(task, base_url) == Step(2.0, True, truncated=True)


def test_our_servers_answer_is_understood(base_url):
    with rollout_server(Guessing()) as (http, _):
        task = RemoteRollouts(str(http.base_url), "guessing", max_round=2)
        task.ready()
        with contextlib.closing(task), pytest.raises(EnvError) as failed:
            played(task, base_url)  # that session draws nothing
    assert failed.value.status == Status.STEP_FAILED and "status 501" in str(failed.value)


def changed(**changes):
    """The answer with another detail."""
    return {**copy.deepcopy(ANSWER), "details": [DETAIL | changes]}


@pytest.mark.parametrize("answer, status, message", [
    (changed(error="The disk is full.", status="crashed"), Status.CRASHED, "failed: The disk is full"),
    (changed(error="So.", status="finished"), Status.STEP_FAILED, "failed: So"),
    (changed(error="So.", status="odd"), Status.STEP_FAILED, "failed: So"),
    (changed(error="So."), Status.STEP_FAILED, "failed: So"),
    (changed(id=8), Status.MALFORMED, "is of the id 8, and 7 was asked for"),
    (changed(reward=None), Status.MALFORMED, "no reward"), (changed(reward="1"), Status.MALFORMED, "reward"),
    (changed(reward=1.5), Status.MALFORMED, "2 turns sum to 1.25, and reward is 1.5: set by_calls=false"),
    (changed(experiences=None), Status.MALFORMED, "no conversation .*by_calls=false"),
    (changed(experiences=None, left_out="ask for fewer"), Status.MALFORMED, "ask for fewer"),
    (changed(experiences=[]), Status.MALFORMED, "0 turns"),
    (changed(experiences=[3]), Status.MALFORMED, "object"),
    (changed(info={"correct": "yes"}), Status.MALFORMED, "correct"),
    (changed(success=1), Status.MALFORMED, "success"),
    ({**ANSWER, "task_name": "babyai"}, Status.MALFORMED, "is of the task 'babyai'"),
    ({**ANSWER, "details": []}, Status.MALFORMED, "0 items, and one episode was asked for"),
    ({**ANSWER, "details": [DETAIL, DETAIL]}, Status.MALFORMED, "2 items"),
    ({"error": "env is not served here."}, Status.STEP_FAILED, "env is not served here"),
    ([1], Status.MALFORMED, "object"), ((500, {"detail": "no"}), Status.STEP_FAILED, "status 500")])
def test_every_answer_that_is_none_has_its_status(base_url, answer, status, message):
    with serving(answer) as (task, _), pytest.raises(EnvError, match=message) as failed:
        played(task, base_url)
    assert failed.value.status == status and not failed.value.final


def test_a_server_that_does_not_answer_in_time_has_timed_out(base_url):
    over = threading.Event()
    with json_server(lambda *_: over.wait(20)) as (url, _):
        with contextlib.closing(RemoteRollouts(url, "guessing", timeout=0.3)) as task:
            with pytest.raises(EnvError) as failed:
                played(task, base_url)
        over.set()
    assert failed.value.status == Status.TIMED_OUT


def test_a_server_that_is_not_there_or_serves_something_else_is_told_before_the_first_episode():
    nowhere = f"http://127.0.0.1:{free_port()}"
    with contextlib.closing(RemoteRollouts(nowhere, "guessing", patience=0)) as task:
        with pytest.raises(UserError, match="not ready.*Start it"):
            task.ready()
    with rollout_server(Guessing()) as (http, _):
        both = f"{http.base_url},{http.base_url}"
        with contextlib.closing(RemoteRollouts(both, "babyai")) as task:
            with pytest.raises(UserError, match="serves the environment 'guessing', and the task has env"):
                task.ready()


def test_a_wrong_key_stops_the_run_and_goes_to_no_endpoint(monkeypatch):
    monkeypatch.setenv("MY_KEY", "not-the-key-of-it")
    models = {"data": [{"id": "policy"}]}
    expected = {"": "needs an API key.*api_key_env", "MY_KEY": "refuses the API key .*'MY_KEY'"}
    with (rollout_server(Guessing(), api_key="the-key") as (http, _),
          json_server(lambda *_: models) as (url, asked)):
        for setting, message in expected.items():
            task = RemoteRollouts(str(http.base_url), "guessing", api_key_env=setting)
            with contextlib.closing(task), pytest.raises(UserError, match=message) as failed:
                played(task, f"{url}/v1")
            assert not isinstance(failed.value, EnvError) and "not-the-key" not in str(failed.value)
    assert len(asked) == 2 and not any("Authorization" in call.headers for call in asked)


def test_the_seed_chooses_among_servers_and_keeps_a_group_together(base_url):
    with json_server(lambda *_: ANSWER) as (one, first), json_server(lambda *_: ANSWER) as (two, second):
        with contextlib.closing(RemoteRollouts(f"{one},{two}", "guessing")) as task:
            for seed in range(20):
                task.open({"id": 7}, seed).play(base_url)
                counts = len(first), len(second)
                task.open({"id": 7}, seed).play(base_url)
                assert (len(first) == counts[0]) != (len(second) == counts[1])
                assert (len(first) % 2, len(second) % 2) == (0, 0)
    assert len(first) + len(second) == 40 and min(len(first), len(second)) > 4


def test_closing_the_task_ends_an_episode_that_hangs(base_url):
    over = threading.Event()
    failed = []

    def play():
        try:
            played(task, base_url)
        except EnvError as error:
            failed.append(error)

    with json_server(lambda *_: over.wait(20)) as (url, asked):
        task = RemoteRollouts(url, "guessing")
        thread = threading.Thread(target=play)
        thread.start()
        wait_until(lambda: asked)
        task.close()
        thread.join(20)
        over.set()
    assert "given up" in str(failed[0]) and not thread.is_alive()
    with pytest.raises(UserError, match="closed"):
        played(task, base_url)


def test_no_more_episodes_are_out_than_max_concurrent_rollouts(base_url):
    lock = threading.Lock()
    work = {"now": 0, "most": 0}
    go = threading.Event()

    def answer(*_):
        with lock:
            work["now"] += 1
            work["most"] = max(work.values())
        go.wait(0.1)
        with lock:
            work["now"] -= 1
        return ANSWER

    with json_server(answer) as (url, asked):
        with contextlib.closing(RemoteRollouts(url, "guessing", max_concurrent_rollouts=2)) as task:
            threads = [threading.Thread(target=played, args=(task, base_url)) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert work["most"] == 2 and len(asked) == 6
