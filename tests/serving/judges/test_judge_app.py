"""The judge server over HTTP: its contract, what it refuses, and a model of our own behind it."""
import collections
import concurrent.futures
import contextlib
import hmac
import json
import logging
import subprocess
import sys
import time

import httpx
import pytest

from jaxrl_moe.judges import chat
from jaxrl_moe.judges.ai import AiJudge
from jaxrl_moe.judges.chat import ChatEndpoint
from jaxrl_moe.judges.client import JudgeClient
from jaxrl_moe.judges.queue.queue import Given
from jaxrl_moe.judges.queue.sql import SqlQueue
from jaxrl_moe.judges.records import Verdict, Work
from jaxrl_moe.judges.rubrics import read_rubrics
from jaxrl_moe.serving.http import gate
from jaxrl_moe.serving.judges import service
from jaxrl_moe.serving.judges.launch import JudgeServerOptions, make_server
from jaxrl_moe.types import UserError
from tests.helpers.chat_server import ChatServer, in_turn, quotations, scored
from tests.helpers.judge_servers import LAYOUT, PAGE, TITLE, JudgeProcess, ScriptedJudge, judge_server
from tests.helpers.waiting import wait_until

SCORE = "/api/judge/v1/score"
WORK = Work("Build a page.", ("<p>",))
BODY = {"task_app": {"id": "agora_ex"}, "trace": WORK.plain()}
GOOD = scored(layout=0.5, title=1)


def with_options(**options):
    return BODY | {"options": options}


def ai_judge(server, model="m", **settings):
    return AiJudge(ChatEndpoint(server.url, model, retries=0), **settings)


def test_a_model_answers_at_once_in_the_contracts_form():
    with ChatServer(in_turn(GOOD)) as model, judge_server({"model": {"m": ai_judge(model)}}) as (url, served):
        answer = httpx.post(url + SCORE, json=BODY | {"policy_name": "p"}).json()
        item = answer["details"]["item"]
        assert answer == {"status": "ok", "event_rewards": [],
                          "outcome_reward": {"total": 0.625, "criteria": {"layout": 0.5, "title": 1.0}},
                          "details": {"judge": "m", "raw": GOOD, "item": item}}
        assert httpx.get(f"{url}/api/judge/v1/items/{item}").json() == answer
        assert httpx.get(f"{url}/api/judge/v1/items/{item[:-1]}").status_code == 404
        assert httpx.get(f"{url}/health").json() == {"status": "ok", "providers": ["model"],
                                                     "models": {"model": ["m"]}, "rubrics": ["page"],
                                                     "held": 0}
        assert 'judge_answers_total{provider="model",status="ok"} 2' in httpx.get(f"{url}/metrics").text


def test_events_get_rewards_by_their_index():
    answer = json.dumps({"rationale": "", "scores": {"layout": 1, "title": 1}, "turns": {"turn_1": 0.25}})
    with ChatServer(in_turn(answer)) as model, judge_server({"model": {"m": ai_judge(model)}}) as (url, _):
        said = httpx.post(url + SCORE, json=with_options(event=True, outcome=True)).json()
    assert said["event_rewards"] == [{"event_index": 0, "reward": 0.25}]


def test_a_trace_of_another_form_is_judged_as_the_json_that_it_is():
    trace = {"session": [{"tool": "craft", "reward": 1}], "task": "Craft."}
    with ChatServer(in_turn(GOOD)) as model, judge_server({"model": {"m": ai_judge(model)}}) as (url, _):
        httpx.post(url + SCORE, json=BODY | {"trace": trace})
    shown = quotations(model.asked[0][0])
    assert shown["the task"] == "Craft." and json.loads(shown["text of the work"]) == trace


def test_people_are_pending_until_they_answer_and_a_failure_says_why():
    judge = ScriptedJudge()
    with judge_server({"human": {"": judge}}) as (url, _):
        said = httpx.post(url + SCORE, json=BODY).json()
        item = said["details"]["item"]
        assert said == {"status": "pending", "event_rewards": [], "outcome_reward": {},
                        "details": {"item": item}}
        assert httpx.get(f"{url}/api/judge/v1/items/{item}?wait=0.1").json() == said
        own = item.removeprefix("human.")
        judge.say(own, Verdict(0.25, judge="Ada"))
        assert httpx.get(f"{url}/api/judge/v1/items/{item}?wait=20").json()["outcome_reward"]["total"] == 0.25
        assert httpx.post(url + SCORE, json=BODY).json()["status"] == "ok"
        judge.say(own, "it was dropped")
        said = httpx.post(url + SCORE, json=BODY).json()
        assert said["status"] == "failed" and said["details"] == {"item": item, "reason": "it was dropped"}


def test_a_model_that_fails_is_failed_with_status_200_and_no_number():
    with ChatServer(in_turn("no idea")) as model, judge_server({"model": {"m": ai_judge(model)}}) as (url, _):
        answer = httpx.post(url + SCORE, json=BODY)
    assert answer.status_code == 200 and answer.json()["status"] == "failed"
    assert answer.json()["outcome_reward"] == {} and "no JSON" in answer.json()["details"]["reason"]


def test_rubrics_are_named_overridden_or_sent():
    judge = ScriptedJudge()
    other = {"id": "mine", "criteria": [{"id": "wit", "weight": 0.5, "description": "Is it witty?"}]}
    with judge_server({"human": {"": judge}}) as (url, _):
        for options in ({}, {"rubric_id": "page"}, {"rubric_overrides": {"title": {"weight": 0.125}}},
                        {"rubric_overrides": other}, {"rubric_overrides": other, "rubric_id": "mine"}):
            assert httpx.post(url + SCORE, json=BODY | {"trace": {"n": str(options)}, "options": options}
                              ).status_code == 200
    asked = [ask.rubric for _, ask in judge.asked.values()]
    assert asked[:2] == [PAGE, PAGE] and [each.weight for each in asked[2].criteria] == [0.75, 0.125]
    assert [each.id for each in asked[3:]] == ["mine", "mine"]


@pytest.mark.parametrize("body, status, words", [
    ({"trace": {}}, 400, "task_app: Field required"),
    (BODY | {"polcy_name": "p"}, 400, "polcy_name: unknown"),
    (with_options(rubrik="page"), 400, "options.rubrik: unknown"),
    (with_options(outcome=False), 400, "outcome"),
    (with_options(mode="best"), 400, "options.mode"), (BODY | {"trace": [1]}, 400, "trace"),
    (BODY | {"trace": {"turns": [{"txt": "a"}]}}, 400, "has no text"),
    (BODY | {"trace": {"artifacts": [{"kind": "gif", "content": ""}]}}, 400, "text, html, png"),
    (BODY | {"task_app": {"id": "a", "key": "b"}}, 400, "task_app.key: unknown"),
    (with_options(provider="modal"), 400, "Did you mean 'model'"),
    (with_options(model="n"), 400, "It has: m."),
    (with_options(provider="human", model="m"), 400, "none, as people judge"),
    (with_options(rubric_id="pagee"), 404, "Did you mean 'page'"),
    (with_options(rubric_overrides={"titel": {}}), 400, "Did you mean 'title'"),
    (with_options(rubric_overrides={"title": {"weight": 9}}), 400, "add up to 9.75"),
    (with_options(rubric_overrides={"criteria": []}), 400, "at least one"),
    (with_options(rubric_id="b", rubric_overrides=PAGE.plain()), 400, "name one"),
    (with_options(mode="pairwise"), 400, "compares the works of a group"),
    (with_options(mode="pairwise", max_concurrency=1), 400, "--concurrency=1"),
    (with_options(event=True) | {"trace": {"artifacts": [{"kind": "text", "content": ""}]}}, 400,
     "no turns")])
def test_what_is_not_known_or_has_no_effect_is_refused(body, status, words):
    with ChatServer(in_turn(GOOD)) as model:
        judges = {"model": {"m": ai_judge(model)}, "human": {"": ScriptedJudge()}}
        with judge_server(judges) as (url, _):
            answer = httpx.post(url + SCORE, json=body)
    assert answer.status_code == status and words in answer.json()["error"]["message"] and not model.asked


def test_a_call_is_held_no_longer_than_its_client_waits_and_only_so_many_are(monkeypatch):
    monkeypatch.setattr(service, "HOLD_SECONDS", 0.1)
    with ChatServer(in_turn(None)) as model, judge_server({"model": {"m": ai_judge(model)}}) as (url, _):
        assert httpx.post(url + SCORE, json=BODY).json()["status"] == "pending"
        monkeypatch.setattr(service, "MOST_HELD", 0)
        assert httpx.post(f"{url}{SCORE}?wait=60", json=BODY).json()["status"] == "pending"
        assert httpx.post(f"{url}{SCORE}?wait=61", json=BODY).status_code == 400
        assert httpx.post(f"{url}{SCORE}?wiat=6", json=BODY).status_code == 400


def test_keys_are_compared_in_constant_time_and_stand_in_no_answer_or_log(monkeypatch, caplog):
    key, wrong, model_key = "key-of-the-judge-server", "key-of-somebody-else", "key-of-the-model-endpoint"
    compared = []
    plain = hmac.compare_digest

    def compare(one, other):
        compared.append((one, other))
        return plain(one, other)
    monkeypatch.setattr(gate.hmac, "compare_digest", compare)
    with caplog.at_level(logging.DEBUG), ChatServer(in_turn((401, {"error": f"no {model_key}"}))) as model:
        judge = AiJudge(ChatEndpoint(model.url, "m", api_key=model_key, retries=0))
        with judge_server({"model": {"m": judge}}, api_key=key) as (url, _):
            answers = [httpx.get(f"{url}/health"), httpx.post(url + SCORE, json=BODY)]
            for given in (wrong, key[:-1], key):
                headers = {"Authorization": f"Bearer {given}"}
                answers.append(httpx.post(url + SCORE, json=BODY, headers=headers))
    assert [answer.status_code for answer in answers] == [200, 401, 401, 401, 200]
    assert compared[1] == (f"Bearer {wrong}".encode(), f"Bearer {key}".encode()) and len(compared) == 4
    assert answers[-1].json()["status"] == "failed"
    told = [answer.text + str(answer.headers) for answer in answers]
    logged = [record.getMessage() for record in caplog.records if record.name != "httpx"]
    for text in [*told, *logged, repr(JudgeServerOptions(api_key=key, llm_key=model_key))]:
        assert not any(secret in text for secret in (key, wrong, model_key))


def test_the_librarys_rubrics_weigh_up_to_one_and_are_served():
    rubrics = read_rubrics()
    assert rubrics.keys() == {"agora_page", "agora_text"}
    for rubric in rubrics.values():
        full = {criterion.id: 1.0 for criterion in rubric.criteria}
        assert rubric.total(full) == 1.0 and len(full) >= 5
    server, served = make_server(JudgeServerOptions(llm_url="http://127.0.0.1:1/v1", llm_model="a, b",
                                                    port=0))
    assert list(served.judges["model"]) == ["a", "b"] and list(served.rubrics) == list(rubrics)
    served.close()
    server._socket.close()


@pytest.mark.parametrize("options, reason", [
    ({}, "Nobody would judge"), ({"llm_url": "127.0.0.1:1"}, "llm_url"), ({"queue": "", "provider": "human"},
                                                                        "Nobody"),
    ({"llm_url": "http://127.0.0.1:1", "provider": "human"}, "needs --queue"),
    ({"llm_url": "http://127.0.0.1:1", "provider": "blended"}, "needs --llm_url and --queue"),
    ({"llm_url": "http://127.0.0.1:1", "provider": "modl"}, "Did you mean 'model'"),
    ({"llm_url": "http://127.0.0.1:1", "llm_model": "a,a"}, "or one twice"),
    ({"llm_url": "http://127.0.0.1:1", "rubrics": "/nowhere/r.json"}, "does not exist"),
    ({"llm_url": "http://127.0.0.1:1", "overlap": 2}, "--overlap changes nothing without --queue"),
    ({"llm_url": "http://127.0.0.1:1", "webhooks": ["http://127.0.0.1:1"]}, "--webhook changes nothing"),
    ({"queue": "sqlite:///q", "webhook_allow": ["https://a.org"]}, "--webhook_allow changes nothing without"),
    ({"queue": "sqlite:///q", "webhook_secret": "s"}, "--webhook_secret_env changes nothing without --webh"),
    ({"queue": "sqlite:///q", "blend_calibrate": True}, "--blend_.* without both --llm_url and --queue"),
    ({"llm_url": "http://127.0.0.1:1", "queue": "sqlite:///q", "blend_deadline": 5}, "does not go with"),
    ({"llm_url": "http://127.0.0.1:1", "queue": "sqlite:///q", "blend_on_deadline": "drop"}, "=0 does not"),
    ({"llm_url": "http://127.0.0.1:1", "host": "0.0.0.0"}, "no API key")])
def test_what_cannot_be_served_is_refused_at_the_start(options, reason):
    with pytest.raises(UserError, match=reason):
        make_server(JudgeServerOptions(port=0, **options))


def test_a_server_without_a_key_answers_only_under_this_machines_names():
    hosts = "127.0.0.1:1", "localhost", "[::1]:8103", "evil.example", "127.0.0.1.evil.example"
    with judge_server({"human": {"": ScriptedJudge()}}) as (url, _):
        asked = {host: httpx.get(f"{url}/health", headers={"Host": host}).status_code for host in hosts}
    assert list(asked.values()) == [200, 200, 200, 403, 403]
    with judge_server({"human": {"": ScriptedJudge()}}, api_key="k") as (url, _):
        headers = {"Host": "judge.example", "Authorization": "Bearer k"}
        assert httpx.get(f"{url}/metrics", headers=headers).status_code == 200


def test_judges_are_shown_the_run_that_a_client_names_and_never_the_policy():
    judge = ScriptedJudge()
    with judge_server({"human": {"": judge}}) as (url, _):
        for number, options in enumerate(({}, {"run": "r"})):
            httpx.post(url + SCORE, json=BODY | {"policy_name": "qwen-step-700", "options": options,
                                                 "trace": {"n": number}})
    assert [ask.run for _, ask in judge.asked.values()] == ["", "r"]


def test_a_queue_is_served_with_its_overlap_and_deadline_and_an_item_is_dropped_over_http(tmp_path):
    url = f"sqlite:///{tmp_path}/queue.db"
    with ChatServer(in_turn(GOOD)) as model, contextlib.closing(SqlQueue(url)) as queue:
        (tmp_path / "page.json").write_text(json.dumps(PAGE.plain()))
        server, served = make_server(JudgeServerOptions(
            rubrics=str(tmp_path / "page.json"), llm_url=model.url, queue=url, provider="human", port=0,
            overlap=2, blend_deadline=0.2, blend_on_deadline="model"))
        with server:
            assert served.judges["blended"][""].queue is served.judges["human"][""].queue
            item = httpx.post(server.url + SCORE, json=BODY).json()["details"]["item"]
            names = ["ada", "bob"]
            for name in names:
                queue.add_judge(name)
            assert {queue.lease(name, 60).item for name in names} == {queue.lease("ada", 60).item}
            path = f"{server.url}/api/judge/v1/items/"
            for _ in range(2):
                assert httpx.delete(path + item).json() == {"item": item, "waited_for": False}
            assert queue.state(item.removeprefix("human.")).dropped == "nobody waits for it any more"
            gone = httpx.get(path + item)
            assert gone.status_code == 404 and "nobody waits" in gone.json()["error"]["message"]
            assert httpx.delete(path + "human.nothing").status_code == 404
            assert httpx.delete(path + "nobody.nothing").status_code == 404
            said = httpx.post(f"{server.url}{SCORE}?wait=20", json=with_options(provider="blended")).json()
            assert said["details"]["judge"].endswith("(alone)")


def test_folders_of_rubrics_are_read_whole_and_strictly(tmp_path):
    def write(name, **changes):
        (tmp_path / name).write_text(json.dumps({"id": "page", "criteria": [LAYOUT, TITLE]} | changes))
    with pytest.raises(UserError, match="has no rubrics"):
        read_rubrics(tmp_path)
    write("a.json")
    assert read_rubrics(tmp_path) == read_rubrics(tmp_path / "a.json") == {"page": PAGE}
    write("b.json")
    with pytest.raises(UserError, match=r"b.json.*'page' already"):
        read_rubrics(tmp_path)
    write("b.json", id="b", criteria=[LAYOUT, TITLE | {"weight": 1}])
    with pytest.raises(UserError, match="add up to 1.75"):
        read_rubrics(tmp_path)


@pytest.mark.slow
def test_a_real_model_behind_our_own_endpoint_is_asked_and_its_nonsense_is_a_failure(server, monkeypatch):
    """The tiny random model takes no response_format and writes no JSON: both ways of asking are taken, the
    repair is tried, and what comes is a failure with the model's own words kept out of the scores."""
    monkeypatch.setattr(chat, "REPAIR", "Again.")
    short = ChatEndpoint(f"{server.url}/v1", "tiny", max_tokens=4, retries=0)
    hi = {"role": "user", "content": "hi"}
    question = chat.Question("q", (hi,), {"type": "object"}, lambda fields: fields)
    with pytest.raises(UserError, match="nor when it was told so"):
        short.ask(question)
    assert not short._formats
    short.close()
    judge = AiJudge(ChatEndpoint(f"{server.url}/v1", "tiny", max_tokens=4, retries=0))
    with judge_server({"model": {"tiny": judge}}) as (url, _):
        answer = httpx.post(url + SCORE, json=BODY, timeout=60).json()
    assert answer["status"] == "failed" and "tokens" in answer["details"]["reason"]  # the prompt has no room


def test_the_script_says_what_it_serves_and_ends_with_code_0_after_sigterm(tmp_path, monkeypatch):
    monkeypatch.setenv("THE_MODELS_KEY", "secret-of-model")
    full = scored(follows_request=1, structure=1, language=1, substance=1, complete=1)
    with ChatServer(in_turn(full)) as model:
        options = f"--llm_url={model.url}", "--llm_key_env=THE_MODELS_KEY", f"--cache={tmp_path}/verdicts.db"
        with JudgeProcess(*options) as process:
            assert process.said == (f"Serving judges at {process.url}: model (gpt-oss-120b); rubrics: "
                                    "agora_page, agora_text\n")
            answer = httpx.post(process.url + SCORE, json=with_options(rubric_id="agora_text")).json()
            assert answer["outcome_reward"]["total"] == 1.0
            assert "rubric_id is needed" in httpx.post(process.url + SCORE, json=BODY).text
            code, rest = process.end()
    assert code == 0 and rest.startswith("Stopped; ") and "secret" not in process.said + rest
    assert model.asked[0][1]["Authorization"] == "Bearer secret-of-model"
    assert (tmp_path / "verdicts.db").exists()


@pytest.mark.slow
def test_a_server_that_is_killed_again_and_again_loses_nothing_and_judges_nothing_twice(tmp_path):
    """Clients wait meanwhile. A work may be asked about again only where the server had no answer yet."""
    answered = collections.Counter()

    def slowly(body):
        time.sleep(0.3)
        answered[quotations(body)["text of the work"]] += 1
        return scored(layout=0.5, title=int(quotations(body)["text of the work"]) % 2)
    (tmp_path / "page.json").write_text(json.dumps(PAGE.plain()))
    with ChatServer(slowly) as model:
        options = (f"--llm_url={model.url}", f"--cache={tmp_path}/verdicts.db", "--concurrency=4",
                   f"--rubrics={tmp_path}/page.json")
        with JudgeProcess(*options) as process, concurrent.futures.ThreadPoolExecutor(24) as threads:
            client = JudgeClient(process.url, patience=120)
            works = [Work("Count.", (str(number),)) for number in range(100)]
            verdicts = [threads.submit(client.score, work) for work in works]
            for _ in range(4):
                time.sleep(1)
                process.kill()
                process.start()
            rewards = [verdict.result(120).reward for verdict in verdicts]
            before = answered.total()
            assert [client.score(work).reward for work in works] == rewards and answered.total() == before
            client.close()
    assert rewards == [0.375 + 0.25 * (number % 2) for number in range(100)]
    assert len(answered) == 100 and before <= 100 + 4 * 4  # four calls were at work at each end


@pytest.mark.slow
def test_a_fuzzer_on_the_schema_finds_no_server_error(tmp_path):
    with ChatServer(in_turn(GOOD)) as model:
        judges = {"model": {"m": ai_judge(model)}, "human": {"": ScriptedJudge()}}
        with judge_server(judges, api_key="k") as (url, served):
            schema = httpx.get(f"{url}/openapi.json", headers={"Authorization": "Bearer k"}).json()
            for path in schema["paths"].values():  # held calls take their time
                for call in path.values():
                    for parameter in call.get("parameters", ()):
                        if parameter["name"] == "wait":
                            parameter["schema"] = {"type": "number", "minimum": 0, "maximum": 0.1}
            (tmp_path / "openapi.json").write_text(json.dumps(schema))
            command = [sys.executable, "-m", "schemathesis.cli", "run", str(tmp_path / "openapi.json"),
                       f"--url={url}", "--header=Authorization: Bearer k", "--checks=not_a_server_error",
                       "--phases=examples,coverage,fuzzing", "--max-examples=60", "--request-timeout=60",
                       "--no-color"]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout
            assert served.answers["model", "ok"] > 10, served.answers
            assert httpx.get(f"{url}/health").json()["held"] == 0


def test_people_of_a_queue_are_served_beside_a_model_and_together_with_it(tmp_path):
    (tmp_path / "page.json").write_text(json.dumps(PAGE.plain()))
    url = f"sqlite:///{tmp_path}/queue.db"
    with ChatServer(in_turn(GOOD)) as model, contextlib.closing(SqlQueue(url)) as queue:
        server, served = make_server(JudgeServerOptions(
            rubrics=str(tmp_path / "page.json"), llm_url=model.url, queue=url, provider="human", port=0))
        assert list(served.judges) == ["human", "model", "blended"]
        with server, concurrent.futures.ThreadPoolExecutor(2) as threads:
            clients = [JudgeClient(server.url, provider=provider) for provider in ("", "blended", "model")]
            assert clients[2].score(WORK).reward == 0.625
            waiting = [threads.submit(client.score, WORK) for client in clients[:2]]
            queue.add_judge("Ada")
            wait_until(lambda: queue.progress("Ada").waiting)
            lease = queue.lease("Ada", 60)
            queue.answer("Ada", lease.token, Given(({"layout": 1, "title": 0},)))
            assert waiting[0].result(60).reward == 0.75
            assert 0.625 <= waiting[1].result(60).reward <= 0.75
            for client in clients:
                client.close()
