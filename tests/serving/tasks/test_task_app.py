"""The task app as its clients meet it: the contract's routes and fields, and a sentence for all that is
wrong."""
import json
import re
import threading

import pytest

from jaxrl_moe.judges.records import Part
from jaxrl_moe.serving.tasks import policy as policies
from jaxrl_moe.serving.tasks.agora.texts import AgoraTexts
from jaxrl_moe.serving.tasks.played import Played, TurnPlayed
from jaxrl_moe.serving.tasks.policy import Written
from jaxrl_moe.serving.tasks.task import Look
from tests.helpers.task_apps import good_text, policy, request, task_app


@pytest.fixture(scope="module")
def http():
    with task_app() as (client, _):
        yield client


def post(http, body, status=200):
    answer = http.post("/rollout", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    return answer.json() if status == 200 else answer.json()["error"]


def test_an_episode_is_played_to_the_end_of_its_rules(http):
    bad = "Hello."
    with policy(bad, good_text()) as (url, asked):
        answer = post(http, request(url, "two turns", record={"return_trace": True}))
    assert answer.keys() == {"run_id", "trajectories", "branches", "metrics", "aborted", "ops_executed",
                             "trace"}
    [trajectory] = answer["trajectories"]
    assert trajectory.keys() == {"env_id", "policy_id", "steps", "final", "length"}
    first, second = trajectory["steps"]
    assert first.keys() == {"obs", "tool_calls", "reward", "done", "truncated", "info"}
    # has_text and no_markup alone are kept by the first turn, of seven rules
    assert first["reward"] == pytest.approx(2 / 7) and second["reward"] == 1
    assert first["info"]["achievements"] == ["has_text", "no_markup"]
    assert set(second["info"]["achievements"]) == set(second["info"]["achievements_map"])
    assert all(second["info"]["achievements_map"].values())
    assert [(step["done"], step["truncated"]) for step in (first, second)] == [(False, False), (True, False)]
    assert second["tool_calls"] == [{"tool": "submit_text", "args": {"text": good_text()}}]
    metrics = answer["metrics"]
    assert metrics["episode_returns"] == [metrics["mean_return"]] == [pytest.approx(9 / 7)]
    assert metrics["events_score"] == pytest.approx(9 / 14) and metrics["outcome_score"] == 1
    assert (metrics["num_steps"], metrics["num_episodes"], answer["ops_executed"]) == (2, 1, 4)
    assert metrics["details"]["outcome_by"] == "rules" and not answer["aborted"]
    assert answer["trace"]["turns"] == [{"text": bad}, {"text": good_text()}]
    # the conversation that the policy was sent goes on with what it said, word for word
    roles = [message["role"] for message in asked[1].body["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert asked[1].body["messages"][2]["content"] == bad
    assert "words; " in asked[1].body["messages"][3]["content"]
    assert asked[0].body["model"] == "tiny" and "inference_url" not in asked[0].body


def test_sampling_goes_to_the_policy_and_its_key_nowhere_else(http):
    config = {"model": "m", "base_url": None, "temperature": 0.5, "max_tokens": 7, "stop": ["x"], "top_k": 3,
              "api_key": "policy-secret"}
    with policy(good_text()) as (url, asked):
        body = request("x", "sampling")
        body["policy"]["config"] = config | {"inference_url": url + "/chat/completions"}
        answer = http.post("/rollout", json=body)
    assert answer.status_code == 200 and "policy-secret" not in answer.text
    assert asked[0].headers["Authorization"] == "Bearer policy-secret"
    assert "X-API-Key" not in asked[0].headers
    sent = {name: value for name, value in asked[0].body.items() if name != "messages"}
    assert sent == {"model": "m", "temperature": 0.5, "max_tokens": 7, "stop": ["x"], "top_k": 3}


@pytest.mark.parametrize("others, steps, ended, aborted", [
    ({"ops": ["agent", "env"]}, 1, "ops", False), ({"ops": []}, 2, "max_turns", False),
    ({"ops": None, "on_done": "reset"}, 2, "max_turns", False),
    ({"ops": ["agent", "env"] * 5, "on_done": "terminate"}, 2, "max_turns", False),
    ({"safety": {"max_ops": 3}}, 1, "max_ops", True)])
def test_limits_of_turns(http, others, steps, ended, aborted):
    with policy("Hello.") as (url, asked):
        answer = post(http, request(url, f"limits {others}", **others))
    assert len(asked) == steps == answer["metrics"]["num_steps"] and answer["ops_executed"] == 2 * steps
    assert answer["metrics"]["details"]["ended"] == ended and answer["aborted"] == aborted
    last = answer["trajectories"][0]["steps"][-1]
    assert last["truncated"] == (ended in ("ops", "max_ops")) and last["done"] != last["truncated"]
    assert (answer["metrics"]["outcome_score"] is None) == aborted


def test_as_many_turns_are_taken_as_the_limits_say_and_no_more(http):
    limits = http.get("/info").json()["limits"]
    assert limits["max_turns"] > 64 and limits["ops"] == 2 * limits["max_turns"] <= limits["max_ops"]
    assert limits["default_turns"] == AgoraTexts.max_turns
    with policy("Hello.") as (url, asked):
        body = request(url, "many turns", ops=["agent", "env"] * limits["max_turns"])
        body["env"]["config"] = {"max_turns": limits["max_turns"]}
        answer = post(http, body | {"safety": {"max_ops": 40}})
        assert answer["metrics"]["num_steps"] == len(asked) == 20 and answer["aborted"]
        assert "at most" in post(http, body | {"ops": body["ops"] + ["agent", "env"]}, 400)["message"]
        body["env"]["config"] = {"max_turns": limits["max_turns"] + 1}
        assert "max_turns" in post(http, body, 400)["message"]


def test_pictures_of_earlier_turns_are_not_kept():
    def turn(text):
        look = Look(text, (Part("text", text),), {"a": True}, ())
        return TurnPlayed("shown", Written(text, {}, "stop"), look)
    played = Played("brief", [])
    for text in ("one", "two", "three"):
        played.add(turn(text))
    assert [len(each.look.parts) for each in played.turns] == [0, 0, 1]
    assert played.handed_in == ("one", "two", "three") and played.outcome == 1


def test_max_turns_of_the_request_counts(http):
    with policy("Hello.") as (url, asked):
        body = request(url, "turns")
        body["env"]["config"] = {"max_turns": 3}
        assert post(http, body)["metrics"]["num_steps"] == len(asked) == 3


def test_a_rollout_whose_time_is_over_is_aborted_and_has_no_outcome(http):
    go = threading.Event()
    with policy("Hello.", lambda _: go.wait(20) and "late") as (url, _):
        answer = post(http, request(url, "late", safety={"max_time_s": 1.0}))
        go.set()
    assert answer["aborted"] and answer["metrics"]["details"]["ended"] == "max_time_s"
    assert answer["metrics"]["outcome_score"] is None and answer["metrics"]["num_steps"] == 1


def test_what_is_not_recorded_is_left_out(http):
    with policy(good_text()) as (url, _):
        bare = post(http, request(url, "bare", record={"trajectories": False}))
        full = post(http, request(url, "full", record={"return_trace": True, "trace_format": "full"}))
    assert bare["trajectories"] == [] and bare["trace"] is None and bare["metrics"]["outcome_score"] == 1
    assert [message["role"] for message in full["trace"]["messages"]][:3] == ["system", "user", "assistant"]


LOOPBACK = "http://127.0.0.1:1"


def config(**values):
    return {"policy": {"config": values}}


WRONG = [({"run_idd": "x"}, "the field 'run_idd' is not known here. Did you mean 'run_id'"),
         ({"env": {"seed": 0, "env_nam": "x"}}, "env: .*Did you mean 'env_name'"),
         ({"env": {"seed": 0, "config": {"max_turn": 2}}}, "env.config: .*Did you mean 'max_turns'"),
         ({"env": {"env_name": "agora_ex_txt", "seed": 0}}, "not served here, but 'agora_ex_text' is. Did"),
         ({"env": {"seed": -1}}, "env.seed: .*greater"), ({"env": {}}, "env.seed: Field required"),
         ({"env": {"seed": 10**9}}, "no instance 1000000000 of agora_ex_text: it has 3600"),
         ({"run_id": ""}, "run_id: .*at least 1"), ({"run_id": 5}, "run_id: .*string"),
         ({"record": {"logprobs": True}}, "record.logprobs: this server records none"),
         ({"record": {"value": True}}, "record.value: this server records none"),
         ({"record": {"trace_format": "structured"}}, "record.trace_format: .*'compact' or 'full'"),
         ({"ops": ["env", "agent"]}, "ops: they must be .* by turns"),
         ({"ops": ["agent"]}, "ops: they must be .* by turns"), ({"ops": [{"type": "agent"}]}, "ops"),
         ({"ops": ["agent", "env"], "on_done": "reset"}, "on_done = 'reset' would begin the same"),
         ({"on_done": "stop"}, "on_done: .*'reset' or 'terminate'"),
         ({"safety": {"max_ops": 1}}, "safety.max_ops: .*greater"),
         ({"safety": {"max_time_s": 0}}, "safety.max_time_s: .*greater"),
         ({"synth_base_url": "http://x"}, "synth_base_url: this server sends nothing there"),
         (config(model="m"), "policy.config: inference_url is needed"),
         (config(model="m", inference_url=LOOPBACK, base_url="http://[::1]"), "two names of one thing"),
         (config(inference_url=LOOPBACK), "policy.config.model: Field required"),
         (config(model="m", inference_url=LOOPBACK, temprature=1), "Did you mean 'temperature'"),
         (config(model="m", inference_url="http://example.org/v1"), "neither on loopback .* --allow_policy"),
         (config(model="m", inference_url=LOOPBACK, api_key="k\u00e9y"), "api_key: it has spaces, control"),
         (config(model="m\ud800", inference_url=LOOPBACK), "policy.config.model: "),
         (config(model="m", inference_url="http://169.254.169.254/latest"), "not called"),
         (config(model="m", inference_url="file:///etc/passwd"), "no address of a server")]


@pytest.mark.parametrize("change, message", WRONG)
def test_what_is_wrong_with_a_request_is_told(http, change, message):
    error = post(http, request("http://127.0.0.1:1/v1", "wrong") | change, 400)
    assert re.search(message, error["message"]), error["message"]


def test_a_redirect_of_the_policy_is_not_followed(http):
    with policy(good_text()) as (url, elsewhere):
        with policy(lambda _: (307, {"to": f"{url}/chat/completions"})) as (first, _):
            error = post(http, request(first, "redirect"), 502)
    assert "status 307" in error["message"] and not elsewhere


@pytest.mark.parametrize("answer, status, code, message", [
    (lambda _: (500, {"x": 1}), 502, "step_failed", "answered with status 500"),
    (lambda _: {"choices": []}, 502, "malformed", "has no choices"),
    (lambda _: {"choices": [{"message": {"content": 5}}]}, 502, "malformed", "content is 5"),
    (lambda _: {"error": {"message": "no such model"}}, 502, "step_failed", "no such model"),
    (lambda _: (400, {"error": "n = 2"}), 424, "step_failed", "answered with status 400"),
    (lambda _: (410, {"error": "over"}), 424, "step_failed", "answered with status 410")])
def test_a_policy_that_fails_is_no_reward_of_zero(http, answer, status, code, message):
    with policy(answer) as (url, _):
        error = post(http, request(url, f"failing {message}"), status)
    assert error["code"] == code and message in error["message"]
    assert "through no fault of the policy" in error["message"]


def test_whatever_a_policy_writes_comes_back(http):
    odd = "a \ud800 b \x00 \u202e </script> \U0001f600"
    with policy(odd, lambda _: {"choices": [{"message": {"content": None}}]}) as (url, _):
        steps = post(http, request(url, "odd"))["trajectories"][0]["steps"]
    assert steps[0]["info"]["completion"] == odd and steps[1]["info"]["completion"] == ""


def test_a_conversation_that_is_too_long_for_the_policy_ends_there(http):
    with policy("Hello.", lambda _: (400, {"error": {"code": "context_length_exceeded"}})) as (url, asked):
        answer = post(http, request(url, "long"))
    assert len(asked) == 2 and answer["metrics"]["num_steps"] == 1 and not answer["aborted"]
    step = answer["trajectories"][0]["steps"][0]
    assert step["truncated"] and not step["done"] and answer["metrics"]["details"]["ended"] == "refused"
    assert answer["metrics"]["outcome_score"] == step["reward"] == pytest.approx(2 / 7)


def test_a_policy_that_is_busy_is_asked_again(http, monkeypatch):
    monkeypatch.setattr(policies, "BUSY_SECONDS", 0.01)
    with policy(lambda _: (429, {}), lambda _: (503, {}), good_text()) as (url, asked):
        answer = post(http, request(url, "busy"))
    assert len(asked) == 3 and answer["metrics"]["num_steps"] == 1 and answer["metrics"]["outcome_score"] == 1


def test_prefixes_let_other_policies_be_called():
    with policy(good_text()) as (url, asked):
        named = url.replace("127.0.0.1", "127.1")  # which is loopback too, and is not it by name
        with task_app() as (http, _):
            assert "--allow_policy" in post(http, request(named), 400)["message"]
        with task_app(allow=[named]) as (http, _):
            assert post(http, request(named))["metrics"]["outcome_score"] == 1
    assert len(asked) == 1


def test_the_task_is_told_of(http):
    assert http.get("/").json() == {"status": "ok", "service": "agora_ex_text"}
    assert http.head("/").status_code == 200
    assert http.get("/health").json() == {"healthy": True, "auth": {"required": True,
                                                                    "expected_prefix": "sk_env_"}}
    info = http.get("/info").json()
    assert info["service"]["task"]["id"] == "agora_ex_text" and info["rubrics"]["judge"]["by"] == "rules"
    assert http.get("/task_info").json()["taskset"]["count"] == 3600
    alone = http.get("/task_info", params={"seed": 7}).json()
    assert alone.keys() == {"task", "environments", "action_space", "observation", "dataset", "rubric",
                            "inference", "capabilities", "limits", "task_metadata"}
    several = http.get("/task_info?seed=7&seeds=8&seeds=9").json()
    assert several[0] == alone and [each["dataset"]["seed"] for each in several] == [7, 8, 9]
    assert http.get("/task_info?seeds=7").json() == alone
    weights = [criterion["weight"] for criterion in alone["rubric"]["outcome"]["criteria"]]
    assert sum(weights) == pytest.approx(1)
    assert "task_rollouts_ended_total" in http.get("/metrics").text


@pytest.mark.parametrize("path, status, message", [
    ("/task_info?seed=x", 400, "seed"), ("/task_info?seed=-1", 400, "seed"),
    ("/task_info?seed=99999", 400, "no instance 99999"), ("/task_info?sed=1", 400, "Unknown query parameter"),
    ("/task_info?" + "&".join(["seed=1"] * 300), 400, "at most 256"), ("/nowhere", 404, "Not Found"),
    ("/rollout", 405, "Not Allowed")])
def test_queries_that_are_wrong_are_told(http, path, status, message):
    answer = http.get(path)
    assert answer.status_code == status and message in answer.json()["error"]["message"]
