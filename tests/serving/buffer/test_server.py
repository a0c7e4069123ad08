"""The routes of a rollout buffer, as slime's generators and trainer call them."""
import concurrent.futures
import json
import re
import time

import httpx
import pytest

from jaxrl_moe.serving.buffer.groups import Rules
from jaxrl_moe.serving.buffer.launch import BufferOptions, make_server
from jaxrl_moe.serving.buffer.store import Store
from jaxrl_moe.types import UserError
from tests.helpers.buffers import BufferProcess, buffer_server, written


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with buffer_server(tmp_path_factory.mktemp("b") / "b.sqlite", rules=Rules(2, timeout=1e6)) as served:
        yield served


@pytest.fixture
def http(shared):
    """A server whose finished groups were all read."""
    http, store = shared
    store.take()
    return http


def post(http, path, body):
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_items_go_from_the_generator_to_the_trainer_in_slimes_words(http):
    items = [written("w1", "kernel_1", 2.3), written("w2", "kernel_1", 0.1)]
    assert post(http, "/get_rollout_data", {}) == {
        "success": False, "message": "No data available to read", "data": {"data": [], "meta_info": {}}}
    for each in items:
        assert post(http, "/buffer/write", each) == {
            "success": True, "message": "Data has been successfully written to buffer",
            "data": {"data": [each], "meta_info": "write to buffer"}}
    assert http.request("GET", "/buffer/peek", json={"batch_size": 1}).json()["data"]["data"] == items[:1]
    assert http.get("/buffer/peek?batch_size=9").json()["data"]["data"] == items
    told = post(http, "/get_rollout_data", {})
    assert told["success"] and told["message"] == "Successfully read 2 items"
    assert told["data"]["data"] == items
    meta = told["data"]["meta_info"]
    assert meta.pop("avg_reward") == pytest.approx(1.2)
    assert meta == {"total_samples": 2, "num_groups": 1, "avg_group_size": 2, "finished_groups": ["kernel_1"]}
    assert not post(http, "/get_rollout_data", {})["success"]


def test_a_repeated_write_is_answered_as_the_first_and_another_item_of_the_uid_refused(http):
    first = post(http, "/buffer/write", written("r1", "repeat"))
    assert post(http, "/buffer/write", written("r1", "repeat")) == first
    answer = http.post("/buffer/write", json=written("r1", "repeat", 9.0))
    assert answer.status_code == 409 and "is that of another item" in answer.json()["error"]["message"]
    post(http, "/buffer/write", written("r2", "repeat"))
    assert len(post(http, "/get_rollout_data", {})["data"]["data"]) == 2


def test_a_reader_that_asks_for_more_than_there_is_gets_nothing_or_waits(http):
    for uid in ("m1", "m2"):
        post(http, "/buffer/write", written(uid, "more"))
    told = post(http, "/get_rollout_data", {"batch_size": 3})
    assert told["message"] == "Not enough data. Requested 3 items but only 2 available."
    told = post(http, "/buffer/read", {"batch_size": 3, "timeout": 0.05})
    assert len(told["data"]["data"]) == 2  # after its time: what there is
    told = post(http, "/buffer/read", {"batch_size": 1, "timeout": 0.05})
    assert (told["success"], told["message"]) == (False, "Timeout waiting, no data available to read")


def test_a_reader_is_told_as_soon_as_a_group_is_whole(http):
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        reading = thread.submit(post, http, "/buffer/read", {"batch_size": 2, "timeout": 30})
        for uid in ("s1", "s2"):
            post(http, "/buffer/write", written(uid, "soon"))
        assert [each["uid"] for each in reading.result(timeout=20)["data"]["data"]] == ["s1", "s2"]


def test_of_two_readers_at_once_each_group_goes_to_one(http):
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        reading = [threads.submit(post, http, "/buffer/read", {"batch_size": 1, "timeout": 1})
                   for _ in range(2)]
        for uid in ("t1", "t2"):
            post(http, "/buffer/write", written(uid, "two"))
        answers = [each.result(timeout=20) for each in reading]
    assert sorted(len(each["data"]["data"]) for each in answers) == [0, 2]


def test_a_reader_that_leaves_while_it_waits_takes_nothing_along(http):
    with pytest.raises(Exception, match="timed out"):
        http.post("/buffer/read", json={"batch_size": 2, "timeout": 60}, timeout=0.2)
    time.sleep(0.6)  # the server looks whether it is still there
    for uid in ("l1", "l2"):
        post(http, "/buffer/write", written(uid, "left"))
    assert len(post(http, "/get_rollout_data", {})["data"]["data"]) == 2


def test_health_stats_and_metrics_tell_the_same(http):
    stats = http.get("/buffer/stats").json()["data"]["data"][0]
    health = http.get("/health").json()
    assert health["status"] == "ok" and stats.items() <= health.items()
    assert {"current_size", "max_size", "total_written",
            "total_read"} <= stats.keys() and stats["filtered"] == 0
    delivered = re.search(r'buffer_groups\{state="delivered"\} (\d+)', http.get("/metrics").text)[1]
    assert int(delivered) == stats["groups_delivered"]
    assert http.get("/").json() == {"message": "Rollout Buffer Server is running"}


@pytest.mark.parametrize("path, body, message", [
    ("/buffer/write", [], "dictionary"), ("/buffer/write", written("x") | {"reward": None}, "has no reward"),
    ("/buffer/read", {"batch_size": 0}, "0 asks for nothing"), ("/buffer/read", {"batchsize": 1},
                                                                "batch_size"),
    ("/buffer/read", {"timeout": 1e9}, "timeout"), ("/get_rollout_data", {"batch_size": "4"}, "integer"),
    ("/start_rollout", {}, "task_type")])
def test_bodies_that_are_none_are_refused(http, path, body, message):
    answer = http.post(path, json=body)
    assert answer.status_code == 400 and message in answer.json()["error"]["message"]


def test_a_peek_that_asks_wrongly_is_refused(http):
    assert http.get("/buffer/peek?batch_size=0").status_code == 400
    assert http.request("GET", "/buffer/peek", content=b"{").status_code == 400
    assert http.request("GET", "/buffer/peek", json={"size": 1}).status_code == 400


START = {"task_type": "guessing", "input_file": "x.jsonl", "remote_engine_url": "http://127.0.0.1:1",
         "num_repeat_per_sample": "4"}


def test_without_a_task_a_rollout_is_refused_in_words(http):
    answer = http.post("/start_rollout", json=START)
    assert answer.status_code == 400 and "start it with --task=NAME" in answer.json()["error"]["message"]


def test_without_a_size_writes_are_refused_and_a_key_is_asked_for(tmp_path):
    with buffer_server(tmp_path / "b.sqlite", rules=Rules(0), api_key="secret") as (http, _):
        answer = http.post("/buffer/write", json=written("a"))
        assert answer.status_code == 409 and "--group_size=N" in answer.json()["error"]["message"]
        http.headers.pop("Authorization")
        assert http.get("/health").status_code == http.get("/").status_code == 200
        assert http.get("/buffer/stats").status_code == http.post("/buffer/read", json={}).status_code == 401


def test_a_full_disk_is_told_and_loses_nothing(tmp_path):
    with buffer_server(tmp_path / "b.sqlite", rules=Rules(1)) as (http, store):
        with store._file.transaction() as file:
            pages, = file.execute("PRAGMA page_count").fetchone()
        store._file._file.execute(f"PRAGMA max_page_count = {pages}")
        long = written("a", messages=[{"role": "user", "content": "x" * 100_000}])
        answer = http.post("/buffer/write", json=long)
        assert answer.status_code == 503 and "Nothing of the request was done" in json.dumps(answer.json())
        store._file._file.execute("PRAGMA max_page_count = 100000")
        assert post(http, "/buffer/write", long)["success"]
        assert len(post(http, "/get_rollout_data", {})["data"]["data"]) == 1


@pytest.mark.slow
def test_the_command_ends_by_sigterm_and_goes_on_with_its_file(tmp_path):
    path = tmp_path / "deep" / "b.sqlite"
    with BufferProcess(path, "--group_size=1") as server:
        assert httpx.post(f"{server.url}/buffer/write", json=written("a")).status_code == 200
        code, said = server.end()
        assert code == 0 and "what was not handed out is in the file" in said
        server.start()
        assert len(httpx.post(f"{server.url}/get_rollout_data", json={}).json()["data"]["data"]) == 1


@pytest.mark.parametrize("options, message", [
    ({"data": ["a.jsonl"]}, "--data changes nothing without --task"), ({"task": "gsm8k"},
                                                                       "name one by --data=FILE"),
    ({"task": "agent(max_turns=2)", "data": ["a"]}, "played by agents elsewhere"),
    ({"task": "gsm8", "data": ["a"]}, "Did you mean 'gsm8k'")])
def test_options_that_do_not_go_together_are_refused_and_the_file_is_free_again(tmp_path, options, message):
    path = str(tmp_path / "b.sqlite")
    with pytest.raises(UserError, match=re.escape(message)):
        make_server(BufferOptions(path, port=0, **options))
    with pytest.raises(UserError, match="cannot listen"):
        make_server(BufferOptions(path, host="192.0.2.1", port=0, api_key="k"))
    Store(path, Rules()).close()
