"""POST /rollouts: what it answers, each failure by itself, and nobody who has gone is played for."""
import concurrent.futures
import contextlib
import http.client as client_library
import json
import re
import threading
import time

import httpx
import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.serving.envs.app import exposition
from jaxrl_moe.serving.policy import client
from tests.helpers.games import Guessing, GuessingGame
from tests.helpers.rollout_servers import (
    body,
    calls_function,
    finds,
    game_of,
    policy,
    rollout_server,
    turn_of,
)
from tests.helpers.waiting import wait_until


@contextlib.contextmanager
def playing(say=finds, task=None, **options):
    """(a function that posts ids, what is served, what the policy was asked)."""
    with rollout_server(task or Guessing(), **options) as (http, service), policy(say) as (url, asked):
        def post(ids, **others):
            answer = http.post("/rollouts", json=body(url, ids, **others))
            assert answer.status_code == 200, answer.text
            return answer.json()
        yield post, service, asked
        assert (service.sessions.held, service.rollouts.held) == (0, 0)


def test_episodes_are_answered_as_the_contract_says():
    with playing() as (post, service, asked):
        began = time.monotonic()
        answer = post([3, 41])
        took = time.monotonic() - began
    details = answer.pop("details")
    assert 0 < answer.pop("time_taken") <= took
    assert answer == {"task_name": "guessing", "total_score": 1.25, "success_rate": 1, "num_evaluated": 2}
    assert [each["id"] for each in details] == [3, 41]
    for each in details:
        assert (each["reward"], each["success"], each["truncated"]) == (1.25, True, False)
        assert each["ended"] == "done"
        said = [finds({"messages": each["experiences"][:place]}) for place in (1, 3)]
        assert each["experiences"] == [
            {"role": "user", "content": f"Game {each['id']}: guess."},
            {"role": "assistant", "content": said[0], "reward": 0.25, "achieved": []},
            {"role": "user", "content": f"Game {each['id']}: less than 200."},
            {"role": "assistant", "content": said[1], "reward": 1.0, "achieved": ["found"]}]
        assert each["info"] == {"correct": 1, "guesses": 2} and each["rounds"] == 2
    assert len(asked) == 4 and service.rollouts.ended == {"done": 2}
    for call in asked:
        assert set(call.body) == {"model", "messages"} and call.body["model"] == "tiny"
        assert all(set(message) == {"role", "content"} for message in call.body["messages"])
        assert "Authorization" not in call.headers


def test_each_request_of_the_policy_has_the_wishes_and_the_key_that_were_sent():
    wishes = {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "max_tokens": 64, "stop": ["x"]}
    with playing() as (post, _, asked):
        post([3], api_key="secret-of-the-policy", **wishes)
    for call in asked:
        assert {name: call.body[name] for name in wishes} == wishes
        assert call.headers["Authorization"] == "Bearer secret-of-the-policy"


def test_a_policy_is_found_with_or_without_v1():
    with rollout_server(Guessing()) as (http, _), policy(finds) as (url, asked):
        for base_url in (url, f"{url}/", f"{url}/v1", f"{url}/v1/", f"{url}/v1/chat/completions"):
            answer = http.post("/rollouts", json=body(base_url, [3])).json()
            assert answer["num_evaluated"] == 1, answer
    assert {call.path for call in asked} == {"/v1/chat/completions"}


@pytest.mark.parametrize("base_url, expected", [
    ("http://a:1", "http://a:1/v1"), ("http://a:1/sessions/7/v1", "http://a:1/sessions/7/v1"),
    ("http://a/api/openai", "http://a/api/openai/v1"), ("https://a/v1beta/openai/", "https://a/v1beta/openai"),
    ("http://v1.example.org", "http://v1.example.org/v1"), ("http://a/v1x/y", "http://a/v1x/y"),
    ("http://a/x/chat/completions", "http://a/x")])
def test_a_base_url_gets_v1_unless_its_path_has_a_version(base_url, expected):
    assert client.chat_url(base_url) == f"{expected}/chat/completions"


def damaging(sentence):
    """A policy whose first turn in some games goes wrong."""
    wrong = {4: "crash", 5: "nan", 6: (500, {"error": sentence}), 7: {"choices": []},
             8: {"choices": [{"message": {"role": "assistant", "content": 3}}]},
             9: (400, {"error": sentence})}
    return lambda body: wrong.get(game_of(body)) or finds(body)


def test_an_episode_that_fails_says_so_and_the_others_count():
    ids = [3, 4, 5, 6, 7, 8, 9, 100, "guessing_3", 10]
    with playing(damaging("The disk is full.")) as (post, service, _):
        answer = post(ids)
    assert [each["id"] for each in answer["details"]] == ids
    told = {each["id"]: (each["status"], each["error"]) for each in answer["details"] if "error" in each}
    expected = {4: ("crashed", "could not take the action: KeyError"), 5: ("crashed", "no finite number"),
                6: ("step_failed", "status 500: .*disk"), 7: ("malformed", "has no choices"),
                8: ("malformed", "content"), 9: ("step_failed", "status 400: .*disk"),
                100: ("reset_failed", "There is no game 100"), "guessing_3": ("reset_failed", "no game None")}
    assert told.keys() == expected.keys()
    for number, (status, reason) in expected.items():
        assert told[number][0] == status and re.search(reason, told[number][1]), told[number]
        assert "Traceback" not in told[number][1]
    failed = [each for each in answer["details"] if "error" in each]
    assert all(each["reward"] is None and not each["success"] for each in failed)
    assert not any("experiences" in each for each in failed)
    assert (answer["num_evaluated"], answer["total_score"], answer["success_rate"]) == (2, 1.25, 1)
    assert sum(service.rollouts.ended.values()) == len(ids)


def test_what_nobody_has_foreseen_fails_its_own_episode_alone(caplog):
    class Odd(Guessing):
        def instructions(self, row):
            return {1, 2} if row["id"] == 4 else ""  # which is no JSON

    with playing(task=Odd()) as (post, _, _):
        odd, sound = post([4, 3])["details"]
    assert odd["status"] == "crashed" and "could not be played: TypeError" in odd["error"]
    assert sound["success"] and "An episode failed" in caplog.text


def test_where_all_fail_there_is_no_score():
    with playing() as (post, _, _):
        answer = post([100])
    assert (answer["num_evaluated"], answer["total_score"], answer["success_rate"]) == (0, None, None)


@pytest.mark.parametrize("rounds, expected", [(1, 1), (3, 3), (None, 20)])
def test_an_episode_ends_after_max_round_or_the_tasks_turns(rounds, expected):
    with playing(lambda body: "98") as (post, _, asked):
        detail = post([3], max_round=rounds)["details"][0]
    assert (detail["ended"], detail["truncated"], detail["rounds"]) == ("max_round", True, expected)
    assert len(asked) == expected and not detail["success"] and detail["reward"] == 0


def test_a_policy_that_takes_no_further_turn_ends_the_episode_with_what_it_has():
    with playing(lambda body: (400, {"error": "too long"}) if turn_of(body) else finds(body)) as (post, _, _):
        detail = post([3])["details"][0]
    assert (detail["ended"], detail["truncated"], detail["reward"]) == ("refused", True, 0.25)
    assert not detail["success"] and len(detail["experiences"]) == 3


def test_a_busy_policy_is_asked_again(monkeypatch):
    monkeypatch.setattr(client, "BUSY_SECONDS", 0.01)
    answers = iter([(503, {"error": "busy"}), (429, {"error": "busy"})])
    with playing(lambda body: next(answers, None) or finds(body)) as (post, _, asked):
        assert post([3])["num_evaluated"] == 1
    assert len(asked) == 4


def test_no_more_episodes_are_at_work_than_the_option_says():
    work = {"now": 0, "most": 0}
    lock = threading.Lock()

    def say(body):
        with lock:
            work["now"] += 1
            work["most"] = max(work.values())
        time.sleep(0.05)
        with lock:
            work["now"] -= 1
        return finds(body)

    with playing(say, most=3) as (post, _, _), concurrent.futures.ThreadPoolExecutor(2) as clients:
        answers = list(clients.map(post, [list(range(6)), list(range(6, 12))]))
    assert [answer["num_evaluated"] for answer in answers] == [6, 6] and work["most"] == 3
    assert [[each["id"] for each in answer["details"]] for answer in answers] == [
        list(range(6)), list(range(6, 12))]


def test_an_id_that_stands_twice_is_played_twice_with_seeds_of_their_own():
    with playing() as (post, _, asked):
        answer = post([3, 5, 3], seed=11)
        assert [each["id"] for each in answer["details"]] == [3, 5, 3] and answer["num_evaluated"] == 3
    seeds = sorted((game_of(call.body), call.body["seed"]) for call in asked)
    assert seeds == [(3, 11), (3, 11), (3, 12), (3, 12), (5, 11), (5, 11)]


class Hanging:
    """A policy that does not answer in game 9 until the test ends."""

    def __init__(self):
        self.over = threading.Event()
        self.waiting = 0

    def __call__(self, body):
        if game_of(body) == 9:
            self.waiting += 1
            self.over.wait(30)
        return finds(body)


@pytest.fixture
def hanging():
    made = Hanging()
    yield made
    made.over.set()


def test_what_is_not_played_in_the_time_of_a_request_has_failed_and_the_rest_counts(hanging):
    task = Guessing()
    with playing(hanging, task, seconds=2.0) as (post, service, _):
        answer = post([9, 3])
        late, sound = answer["details"]
        assert late["status"] == "timed_out" and "within the 2 seconds" in late["error"]
        assert sound["reward"] == 1.25 and answer["num_evaluated"] == 1 and task.opened == task.closed == 2


def test_a_turn_of_the_policy_has_a_time_of_its_own(hanging):
    with playing(hanging, policy_timeout=0.2) as (post, _, _):
        detail = post([9])["details"][0]
    assert detail["status"] == "timed_out" and "within 0.2 seconds" in detail["error"]


def test_episodes_end_once_their_client_has_gone(hanging):
    task = Guessing()
    with rollout_server(task) as (http, service), policy(hanging) as (url, _):
        data = json.dumps(body(url, [9, 9, 9]))
        leaving = client_library.HTTPConnection(http.base_url.host, http.base_url.port)
        leaving.request("POST", "/rollouts", data, {"Content-Type": "application/json"})
        wait_until(lambda: hanging.waiting == 3)
        assert service.sessions.held == service.rollouts.held == 3
        leaving.close()
        wait_until(lambda: service.sessions.held == 0 and service.rollouts.held == 0)
        assert task.closed == task.opened == hanging.waiting == 3


def test_an_environment_at_work_is_closed_once_it_has_come_back():
    task = Guessing()
    with playing(lambda body: "wait", task, seconds=0.5) as (post, service, _):
        assert post([3])["details"][0]["status"] == "timed_out"
        assert service.sessions.held == 1 and task.closed == 0
        task.go.set()
        wait_until(lambda: service.sessions.held == 0)
        assert task.closed == 1


def test_the_servers_end_ends_the_episodes(hanging):
    with concurrent.futures.ThreadPoolExecutor(1) as clients:
        task = Guessing()
        with rollout_server(task) as (http, _), policy(hanging) as (url, _):
            there = http.base_url.join("/rollouts")
            answer = clients.submit(httpx.post, there, json=body(url, [9]), timeout=60)
            wait_until(lambda: hanging.waiting == 1)
        assert task.closed == 1
        with contextlib.suppress(httpx.TransportError):
            assert "server is ending" in answer.result().json()["error"]


def test_there_must_be_a_session_for_each_episode():
    with playing(sessions=1) as (post, service, _):
        number, _ = service.sessions.create()
        assert "All 1 sessions of this server are taken" in post([3])["details"][0]["error"]
        service.sessions.end(number)
        assert post([3, 4])["num_evaluated"] == 2


def test_sessions_of_the_servers_own_do_not_expire_while_a_policy_thinks():
    with playing(lambda body: time.sleep(0.4) or finds(body), idle=0.05) as (post, service, _):
        assert post([3])["num_evaluated"] == 1 and not service.sessions.ended["expired"]


def test_a_task_that_bears_one_thread_is_played_by_one():
    threads = set()

    class Watched(GuessingGame):
        def step(self, action):
            threads.add(threading.get_ident())
            return super().step(action)

    class Alone(Guessing):
        concurrent = False

        def open(self, row, seed):
            super().open(row, seed)
            return Watched(self, row["id"])

    with playing(task=Alone()) as (post, _, _):
        assert post(list(range(8)))["num_evaluated"] == 8
    assert len(threads) == 1


def test_instructions_are_the_system_message():
    task = make_task("textcraft(recipes='small')")
    with playing(lambda body: "inventory", task) as (post, _, asked):
        detail = post([0], max_round=1)["details"][0]
    assert detail["experiences"][0] == {"role": "system", "content": task.instructions({"id": 0})}
    assert asked[0].body["messages"] == [{"role": each["role"], "content": each["content"]}
                                         for each in detail["experiences"][:2]]


def test_functions_are_offered_and_each_call_gets_its_result():
    craft = '{"count": "1", "item": "blue dye", "ingredients": "1 flower"}'
    answers = iter([calls_function("get", '{"count": "1", "item": "flower"}', "a"), "no call",
                    calls_function("craft", craft, "b")])
    task = make_task("textcraft(recipes='small', answers='functions')")
    with playing(lambda body: next(answers), task) as (post, _, asked):
        detail = post([0])["details"][0]
    assert all(call.body["tools"] == json.loads(json.dumps(task.tools({}))) for call in asked)
    first, second, third = (call.body["messages"] for call in asked)
    assert second[len(first)]["tool_calls"][0]["function"]["name"] == "get"
    assert second[len(first) + 1]["role"] == "tool" and second[len(first) + 1]["tool_call_id"] == "a"
    assert third[-1]["role"] == "user" and "0 functions were called" in third[-1]["content"]
    assert detail["success"] and detail["reward"] == 1


def test_the_numbers_stand_among_the_metrics():
    with playing(damaging("x"), most=5) as (post, service, _):
        post([3, 4])
        lines = exposition(service).splitlines()
    assert "jaxrl_moe_env_rollouts_at_once 5" in lines and "jaxrl_moe_env_rollouts 0" in lines
    assert 'jaxrl_moe_env_rollouts_ended_total{how="done"} 1' in lines
    assert 'jaxrl_moe_env_rollouts_ended_total{how="crashed"} 1' in lines


WRONG = [({"env": "babyai"}, "env = 'babyai' is not served here, but 'guessing' is"),
         ({"env": None}, "env: .*string"), ({"model": ""}, "model: .*at least 1"),
         ({"ids": []}, "at least 1"), ({"ids": list(range(1025))}, "at most 1024"),
         ({"ids": [-1]}, "ids"), ({"ids": [True]}, "ids"),
         ({"ids": [1.0]}, "ids"), ({"ids": 3}, "ids"), ({"max_round": 0}, "max_round"),
         ({"max_round": 2000}, "max_round"), ({"temperature": -1}, "temperature"),
         ({"max_tokens": 0}, "max_tokens"), ({"seed": 1.5}, "seed"),
         ({"api_key": "a b"}, "api_key: .*HTTP headers"), ({"api_key": 3}, "api_key"),
         ({"max_rounds": 3}, "Did you mean 'max_round'"), ({"base_url": "nowhere"}, "is no address"),
         ({"base_url": "http://127.0.0.1:1/\n"}, "base_url|no address"), ({"base_url": None}, "base_url")]


def test_a_body_that_cannot_be_met_is_refused_in_a_sentence():
    with rollout_server(Guessing()) as (http, service):
        for change, reason in WRONG:
            answer = http.post("/rollouts", json=body("http://127.0.0.1:1", [3]) | change)
            assert answer.status_code == 200 and answer.json().keys() == {"error"}, answer.text
            error = answer.json()["error"]
            assert re.search(reason, error) and error.endswith(".") and "\n" not in error, (change, error)
        assert not service.rollouts.ended and not service.sessions.held
