"""POST /start_rollout: the server plays a task's episodes with a policy and writes them into its buffer."""
import json

import httpx
import pytest

from jaxrl_moe.envs.gsm8k import Gsm8k
from jaxrl_moe.serving.buffer import playing
from jaxrl_moe.serving.buffer.groups import Rules
from tests.helpers.buffers import BufferProcess, buffer_server
from tests.helpers.games import Guessing
from tests.helpers.rollout_servers import finds, policy
from tests.helpers.waiting import wait_until


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    values = [{"id": number, "instance_id": f"game {number}", "extra_info": {"level": 2}} for number in (7,
                                                                                                         40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in values))
    return str(path)


def start(url, path, **others):
    """As slime's trainer asks for it: numbers are texts."""
    return {"num_process": "100", "num_epoch": "1", "remote_engine_url": url,
            "remote_buffer_url": "http://b:1",
            "task_type": "guessing", "input_file": path, "num_repeat_per_sample": "3", "max_tokens": "64",
            "sampling_params": {"max_tokens": 64, "temperature": 0.8, "top_p": 1.0},
            "tokenizer_path": "/model",
            "skip_instance_ids": []} | others


def rollout(http):
    return http.get("/buffer/stats").json()["data"]["data"][0]["rollout"]


def ended(http):
    wait_until(lambda: rollout(http)["state"] != "at work", 30)
    return rollout(http)


def read(http):
    return http.post("/get_rollout_data", json={}).json()["data"]["data"]


def test_a_rollout_is_played_and_read_in_groups(tmp_path, rows):
    with policy(finds) as (url, asked), buffer_server(
            tmp_path / "b.sqlite", rules=Rules(0), task=Guessing(), files=[rows]) as (http, _):
        assert rollout(http)["state"] == "idle"
        answer = http.post("/start_rollout", json=start(url, rows, gamma="0.4"))
        assert answer.status_code == 200 and answer.json() == {"message": "Rollout started"}
        assert ended(http) == {"state": "ended", "why": "", "played": 6, "failed": 0, "episodes_open": 0}
        items = read(http)
        assert sorted(each["instance_id"] for each in items) == ["game 40"] * 3 + ["game 7"] * 3
        for each in items:  # a guess beyond for 0.25, then the number for 1
            assert each["reward"] == pytest.approx(0.25 + 0.4 * 1)
            facts = each["extra_info"]
            assert facts["turn_rewards"] == [0.25, 1.0] and facts["level"] == 2 and facts["round_number"] == 2
            assert facts["finish_reason"] == "stop" and each["messages"][-1]["role"] == "assistant"
        sent = asked[0].body
        assert (sent["max_tokens"], sent["temperature"], sent["model"]) == (64, 0.8, "custom")


def test_a_rows_own_prompt_is_what_the_policy_is_shown_first(tmp_path):
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "3 + 4?"}]
    path = tmp_path / "sums.jsonl"
    path.write_text(json.dumps({"prompt": prompt, "answer": "#### 7"}) + "\n")
    with policy(lambda body: "#### 7") as (url, asked), buffer_server(
            tmp_path / "b.sqlite", rules=Rules(1), task=Gsm8k(), files=[path]) as (http, _):
        body = start(url, str(path), num_repeat_per_sample=1)
        assert http.post("/start_rollout", json=body).status_code == 200
        assert ended(http)["played"] == 1 and asked[0].body["messages"] == prompt
        [item] = read(http)
    assert item["messages"] == [*prompt, {"role": "assistant", "content": "#### 7"}]
    assert item["instance_id"] == 0 and item["reward"] == item["extra_info"]["turn_rewards"][0] > 1


def test_passes_are_skipped_as_often_as_their_group_is_there_already(tmp_path, rows):
    with policy(finds) as (url, _), buffer_server(
            tmp_path / "b.sqlite", rules=Rules(0), task=Guessing(), files=[rows]) as (http, _):
        skipped = ["game 7", "game 7", "game 40"]
        body = start(url, rows, num_epoch=2, num_repeat_per_sample=1, skip_instance_ids=skipped)
        assert http.post("/start_rollout", json=body).status_code == 200
        assert ended(http)["played"] == 1 and [each["instance_id"] for each in read(http)] == ["game 40"]


def test_the_same_request_again_starts_nothing_and_another_one_is_refused(tmp_path, rows):
    task = Guessing()
    with policy(lambda body: "Thought:\n-\n\nAction:\nwait") as (url, _), buffer_server(
            tmp_path / "b.sqlite", rules=Rules(0), task=task, files=[rows]) as (http, _):
        body = start(url, rows, num_repeat_per_sample=1, max_turns=1)
        for _ in range(3):  # slime asks again where an answer is late
            assert http.post("/start_rollout", json=body).status_code == 200
        wait_until(lambda: task.waiting == 2)
        answer = http.post("/start_rollout", json=body | {"num_epoch": "2"})
        assert answer.status_code == 409 and "Another rollout goes on" in answer.json()["error"]["message"]
        task.go.set()
        assert ended(http)["played"] == 2
        assert http.post("/start_rollout", json=body).status_code == 200  # once it has ended, it is a new one
        assert ended(http)["played"] == 2 and len(read(http)) == 4


@pytest.mark.parametrize("others, message", [
    ({"task_type": "guesing"}, "Did you mean 'guessing'?"), ({"input_file": "/etc/passwd"},
                                                             "which --data names"),
    ({"input_file": "rows\0"}, "is no file of this server"), ({"max_turns": 21}, "more than the 20"),
    ({"remote_engine_url": "http://192.0.2.1:8000"}, "--allow_base_url"), ({"num_epoch": "x"}, "num_epoch"),
    ({"sampling_params": {"temprature": 1}}, "temprature"), ({"num_repeat_per_sample": 0}, "greater than")])
def test_what_cannot_be_played_is_refused_before_it_begins(tmp_path, rows, others, message):
    with buffer_server(tmp_path / "b.sqlite", rules=Rules(0), task=Guessing(), files=[rows]) as (http, _):
        answer = http.post("/start_rollout", json=start("http://127.0.0.1:1", rows) | others)
        assert answer.status_code == 400 and message in answer.json()["error"]["message"]
        assert rollout(http)["state"] == "idle"


def test_rows_that_the_task_refuses_are_told_by_file_and_row(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"id": 1}\n{"id": 100}\n')
    with buffer_server(tmp_path / "b.sqlite", rules=Rules(0), task=Guessing(), files=[path]) as (http, _):
        answer = http.post("/start_rollout", json=start("http://127.0.0.1:1", str(path)))
        assert answer.status_code == 400 and "There is no game 100" in answer.json()["error"]["message"]


def test_a_policy_that_always_fails_stops_the_rollout_and_the_reader_is_told_why(tmp_path, rows, monkeypatch):
    monkeypatch.setattr(playing, "PAUSE", 0.0)
    with policy(lambda body: (500, {"error": "out of memory"})) as (url, _), buffer_server(
            tmp_path / "b.sqlite", rules=Rules(0), task=Guessing(), files=[rows]) as (http, _):
        assert http.post("/start_rollout", json=start(url, rows, num_epoch=50)).status_code == 200
        told = ended(http)
        assert told["state"] == "stopped" and told["played"] == 0 and "out of memory" in told["why"]
        assert "The rollout has stopped" in http.post("/get_rollout_data", json={}).json()["message"]


def test_an_episode_that_fails_once_is_played_again(tmp_path, rows, monkeypatch):
    monkeypatch.setattr(playing, "PAUSE", 0.0)
    failed = []

    def say(body):
        if len(failed) < 2:
            failed.append(True)
            return 500, {"error": "not yet"}
        return finds(body)
    with policy(say) as (url, _), buffer_server(
            tmp_path / "b.sqlite", rules=Rules(0), task=Guessing(), files=[rows]) as (http, _):
        assert http.post("/start_rollout", json=start(url, rows)).status_code == 200
        assert ended(http)["played"] == 6 and rollout(http)["failed"] == 0 and len(read(http)) == 6


def test_no_more_groups_begin_than_may_wait_for_their_reader(tmp_path, rows, monkeypatch):
    monkeypatch.setattr(playing, "LOOK_SECONDS", 0.02)
    with policy(finds) as (url, _), buffer_server(
            tmp_path / "b.sqlite", rules=Rules(0), task=Guessing(), files=[rows], most=1, ahead=2) as (http,
                                                                                                       _):
        body = start(url, rows, num_epoch=4, num_repeat_per_sample=2)
        assert http.post("/start_rollout", json=body).status_code == 200
        wait_until(lambda: rollout(http)["played"] == 4)
        assert rollout(http)["state"] == "at work"
        played = 0
        while played < 16:
            played += len(read(http))
        assert ended(http)["played"] == 16


@pytest.mark.slow
def test_the_command_plays_a_task_of_the_house(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 0}\n')
    with policy(lambda body: "Thought:\n-\n\nAction:\nget 1 flower") as (url, _), BufferProcess(
            tmp_path / "b.sqlite", "--task=textcraft(recipes='small')", f"--data={path}") as server:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            body = start(url, str(path), task_type="textcraft", num_repeat_per_sample=2, max_turns=2)
            assert http.post("/start_rollout", json=body).status_code == 200
            assert ended(http)["played"] == 2 and len(read(http)) == 2
        assert server.end()[0] == 0
