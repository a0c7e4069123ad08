"""The client of judge servers: it waits for people, survives their servers' ends, and calls failures by their
names."""
import concurrent.futures
import contextlib
import dataclasses
import threading
import time

import httpx
import pytest

from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.judges import client
from jaxrl_moe.judges.client import Dropped, JudgeClient
from jaxrl_moe.judges.records import Part, Verdict, Work
from jaxrl_moe.outgoing import calls
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.fake_judge import FakeJudge
from tests.helpers.judge_servers import PAGE, ScriptedJudge, judge_server
from tests.helpers.waiting import wait_until

WORK = Work("Build a page.", ("<p>",), (Part("html", "<p>"),), "g", 4)
VERDICT = Verdict(0.5, {"layout": 0.5, "title": 0.5}, (), "Ada", "well")


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(client, "AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(calls, "KNOCK_SECONDS", 0.02)


@contextlib.contextmanager
def asking(url, **settings):
    with concurrent.futures.ThreadPoolExecutor(8) as threads, \
            contextlib.closing(JudgeClient(url, **settings)) as asked:  # closed first: calls end with it
        yield lambda *arguments, **options: threads.submit(asked.score, *arguments, **options)


def item_of(judge):
    wait_until(lambda: judge.asked)
    return next(iter(judge.asked))


def test_a_person_is_waited_for_and_sees_the_work_as_it_is():
    judge = ScriptedJudge()
    with judge_server({"human": {"": judge}}) as (url, _), asking(f"{url}/", timeout=0.4) as score:
        waiting = score(WORK, policy_name="p", task_app_id="agora_ex", rubric=PAGE, turns=True, run="run 7")
        item = item_of(judge)
        time.sleep(0.8)  # longer than a call may take
        assert not waiting.done() and list(judge.asked) == [item]
        judge.say(item, VERDICT)
        assert waiting.result(20) == VERDICT
    [(work, ask)] = judge.asked.values()
    assert work == WORK and (ask.rubric, ask.turns, ask.mode, ask.run) == (PAGE, True, "rubric", "run 7")


def test_a_judge_that_fails_is_an_error_with_its_reason():
    judge = ScriptedJudge()
    with judge_server({"human": {"": judge}}) as (url, _), asking(url) as score:
        waiting = score(WORK)
        judge.say(item_of(judge), "nobody could read it")
        with pytest.raises(EnvError, match="could not judge a work: nobody could read it") as failed:
            waiting.result(20)
        assert failed.value.status == Status.STEP_FAILED and not isinstance(failed.value, Dropped)


def test_works_are_handed_in_again_to_a_server_that_was_started_anew_and_has_forgotten_them():
    first, second = ScriptedJudge(), ScriptedJudge()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(contextlib.ExitStack())
        url, _ = server.enter_context(judge_server({"human": {"": first}}))
        score = stack.enter_context(asking(url))
        works = [Work("Count.", (str(number),)) for number in range(3)]
        waiting = [score(work) for work in works]
        wait_until(lambda: len(first.asked) == 3)
        server.close()
        time.sleep(0.1)
        stack.enter_context(judge_server({"human": {"": second}}, port=int(url.rpartition(":")[2])))
        wait_until(lambda: len(second.asked) == 3)
        for item in second.asked:
            second.say(item, VERDICT)
        assert [each.result(20) for each in waiting] == [VERDICT] * 3


def test_a_deadline_drops_the_work_for_good_or_asks_the_model():
    people, model = ScriptedJudge(), ScriptedJudge()
    judges = {"human": {"": people}, "model": {"m": model}}
    with judge_server(judges) as (url, _):
        with asking(url, deadline=0.1, on_deadline="drop") as score:
            with pytest.raises(Dropped, match=r"no verdict within 0.1 seconds") as failed:
                score(WORK).result(20)
            assert failed.value.status == Status.TIMED_OUT and failed.value.final is True
            people.say(item_of(people), VERDICT)
            assert score(WORK).result(20) == VERDICT  # in time
        with asking(url, deadline=0.3, on_deadline="model") as score:
            late = score(Work("Count.", ("1",)))
            model.say(item_of(model), Verdict(1.0, judge="m"))
            assert late.result(20).judge == "m" and list(model.asked) == [list(people.asked)[-1]]


def test_settings_without_effect_or_out_of_range_are_refused():
    for settings, words in (({"deadline": 5}, "no effect with on_deadline = 'wait'"),
                            ({"on_deadline": "drop"}, "no effect with deadline = 0"),
                            ({"on_deadline": "model", "deadline": 5, "provider": "model"}, "asked already"),
                            ({"on_deadline": "die"}, "none of wait, model, drop"),
                            ({"timeout": 0}, "timeout = 0"), ({"patience": -1}, "patience"),
                            ({"deadline": -1}, "deadline")):
        with pytest.raises(UserError, match=words):
            JudgeClient("http://127.0.0.1:1", **settings)
    with pytest.raises(UserError, match="judge_url = 'judge'"):
        JudgeClient("judge")


@pytest.mark.parametrize("settings, words", [
    ({"provider": "humans"}, "Did you mean 'human'"), ({"model": "gpt-oss-120b"}, "no model"),
    ({"rubric_id": "pages"}, "Did you mean 'page'"), ({"api_key": "wrong-key-of-somebody"}, "status 401")])
def test_a_refusal_is_told_at_once(settings, words):
    with judge_server({"human": {"": ScriptedJudge()}}, api_key="right-key-of-the-server") as (url, _):
        with asking(url, **{"api_key": "right-key-of-the-server"} | settings) as score:
            with pytest.raises(UserError, match=words) as failed:
                score(WORK).result(20)
    assert "wrong-key" not in str(failed.value)
    if "api_key" in settings:
        assert not isinstance(failed.value, EnvError)  # the run is over
    else:
        assert failed.value.status == Status.STEP_FAILED and failed.value.final


@pytest.mark.parametrize("settings, words", [
    ({"provider": "humans"}, "judge_provider = 'humans'.*Did you mean 'human'"),
    ({"model": "n", "provider": "model"}, "judge_model = 'n'.*It has: 'm'"),
    ({"model": "m"}, "judge_model = 'm'.*none, as people judge"),
    ({"rubric_id": "pages"}, "rubric_id = 'pages'.*Did you mean 'page'"),
    ({"rubric_id": ""}, "several rubrics, and rubric_id names none: set it to one of 'page', 'text'"),
    ({"api_key": "wrong-key-of-somebody"}, "refuses the API key .judge_key_env.*status 401"),
    ({"api_key": ""}, "judge_key_env names none")])
def test_what_each_call_would_be_refused_for_is_told_at_the_start(settings, words):
    judges = {"human": {"": ScriptedJudge()}, "model": {"m": ScriptedJudge()}}
    right = {"api_key": "right-key-of-the-server", "rubric_id": "page"}
    text = dataclasses.replace(PAGE, id="text")
    with judge_server(judges, rubrics=(PAGE, text), api_key="right-key-of-the-server") as (url, _):
        for late in ({}, {"deadline": 5, "on_deadline": "model"}):
            with contextlib.closing(JudgeClient(url, **right, **late)) as asked:
                asked.meet()
        with contextlib.closing(JudgeClient(url, **right | settings)) as asked:
            with pytest.raises(UserError, match=words) as failed:
                asked.meet()
    assert not isinstance(failed.value, EnvError) and "wrong-key" not in str(failed.value)


def test_a_judge_that_tells_nothing_of_itself_is_met_and_one_that_is_not_there_is_not():
    with FakeJudge("judges-key") as judge:
        with contextlib.closing(JudgeClient(judge.url, api_key="judges-key", rubric_id="any")) as asked:
            asked.meet()
        with contextlib.closing(JudgeClient(judge.url)) as asked, pytest.raises(UserError, match="needs an"):
            asked.meet()
    with contextlib.closing(JudgeClient(f"http://127.0.0.1:{free_port()}", patience=0.1)) as asked:
        with pytest.raises(UserError, match="not ready.*cannot be reached.*judge_url"):
            asked.meet()


def test_a_work_is_taken_back_once_its_last_waiter_gives_it_up():
    judge = ScriptedJudge()
    with judge_server({"human": {"": judge}}) as (url, _), asking(url) as stays, \
            asking(url, deadline=0.4, on_deadline="drop") as score:
        with pytest.raises(Dropped):
            score(WORK).result(20)
        item = item_of(judge)
        wait_until(lambda: judge.dropped)
        waiting = stays(WORK)  # which has it judged after all
        wait_until(lambda: judge.submitted == 2)
        with pytest.raises(Dropped):
            score(WORK).result(20)
        assert httpx.delete(f"{url}/api/judge/v1/items/human.{item}").json()["waited_for"] is True
        judge.say(item, VERDICT)
        assert waiting.result(20) == VERDICT and judge.dropped == [item]


def test_of_calls_of_one_client_the_last_takes_a_work_back():
    judge = ScriptedJudge()
    with judge_server({"human": {"": judge}}) as (url, _), contextlib.closing(JudgeClient(url)) as asked:
        item = httpx.post(f"{url}{client.SCORE}", json={"task_app": {"id": "a"}, "trace": WORK.plain()},
                          headers=dict(asked._connection._http.headers)).json()["details"]["item"]
        asked._waits[item] = 2
        asked._leave(item, True)
        assert asked._waits == {item: 1}
        asked._leave(item, True)
        wait_until(lambda: judge.dropped)
        assert judge.dropped == [item.removeprefix("human.")] and not asked._waits


def test_a_work_that_another_server_took_back_is_handed_in_again():
    judge = ScriptedJudge()
    with judge_server({"human": {"": judge}}) as (url, _), asking(url, timeout=0.4) as score:
        waiting = score(WORK)
        item = item_of(judge)
        judge.drop(item, "")
        wait_until(lambda: judge.submitted == 2)
        judge.say(item, VERDICT)
        assert waiting.result(20) == VERDICT


def test_a_server_that_is_not_there_is_unreachable_once_the_patience_is_over():
    with asking(f"http://127.0.0.1:{free_port()}", patience=0.1) as score:
        with pytest.raises(EnvError, match="cannot be reached") as failed:
            score(WORK).result(20)
    assert failed.value.status == Status.UNREACHABLE


def test_closing_ends_a_wait():
    judge = ScriptedJudge()
    with judge_server({"human": {"": judge}}) as (url, _):
        asked = JudgeClient(url)
        failures = []

        def wait():
            for _ in range(2):  # the second time it is closed already
                try:
                    asked.score(WORK)
                except EnvError as error:
                    failures.append(error.status)
        thread = threading.Thread(target=wait)
        thread.start()
        item_of(judge)
        asked.close()
        thread.join(20)
        assert not thread.is_alive() and failures == [Status.UNREACHABLE] * 2


@pytest.mark.parametrize("answer, words", [
    ({}, "has no status"), ({"status": "done"}, "one of ok, pending, failed"),
    ({"status": "pending"}, "no item"), ({"status": "ok"}, "no outcome_reward"),
    ({"status": "ok", "outcome_reward": {"total": 2}}, "at most 1"),
    ({"status": "ok", "outcome_reward": {"total": 1, "criteria": {"a": "b"}}}, "number"), ([], "a list")])
def test_an_answer_of_another_form_is_malformed(answer, words):
    def read():
        with contextlib.closing(JudgeClient("http://127.0.0.1:1")) as asked:
            return asked._read(answer)
    with pytest.raises(EnvError, match=words) as failed:
        read()
    assert failed.value.status == Status.MALFORMED


def test_equal_works_of_a_group_have_numbers_while_they_are_waited_for():
    judge = ScriptedJudge()
    copies = []
    with judge_server({"human": {"": judge}}) as (url, _), asking(url) as score:
        waiting = []
        for number in range(3):
            waiting.append(score(WORK, mode="ranking"))
            wait_until(lambda number=number: judge.submitted == number + 1)
            copies.append(judge.asked[item_of(judge)][0].copy)
        judge.say(item_of(judge), VERDICT)
        assert [each.result(20) for each in waiting] == [VERDICT] * 3
        assert score(WORK, mode="ranking").result(20) == VERDICT  # as a run that is killed and played again
        copies.append(judge.asked[item_of(judge)][0].copy)
        score(WORK).result(20)
        assert copies == [0, 1, 2, 0] and judge.submitted == 5
