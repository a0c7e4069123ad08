"""Episodes that a task app plays, against one written from its contract: what it is asked, what its answers
mean, and every failure by its name."""
import concurrent.futures
import contextlib
import itertools
import json
import threading

import pytest

from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.remote.task_app import TaskApp
from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.judges.records import Part, Verdict, Work
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.fake_task_app import FakeTaskApp, ModelsOnly, reward_of, scripted, told
from tests.helpers.waiting import wait_until

ROW = {"prompt": "Task 7.", "seed": 7}


@pytest.fixture(scope="module")
def base_url():
    """Of a session that has never drawn anything."""
    with ModelsOnly() as server:
        yield f"{server.url}/sessions/1/v1"


@contextlib.contextmanager
def playing(app, **settings):
    with contextlib.closing(TaskApp(app.url, **settings)) as task:
        yield task


def played(task, base_url, row=ROW):
    return task.open(row, 0).play(base_url)


@pytest.mark.parametrize("settings, reason", [
    ("", "needs the setting 'url'"), ("url='a:1'", "url = 'a:1' is no address"),
    ("url='http://a', max_turns=0", "max_turns = 0 is out of range: it must be at least 1"),
    ("url='http://a', timeout=0", "timeout = 0 is out of range"),
    ("url='http://a', patience=-1", "patience = -1 is out of range"),
    ("url='http://a', max_concurrent_rollouts=-1", "out of range: it must be at least 0"),
    ("url='http://a', reward='score'", "reward = 'score' must be of type"),
    ("url='http://a', reward='judge'", "needs a judge_url"),
    ("url='http://a', judge_mode='pairwise'", "judge_mode = 'pairwise' has no effect, as judge_url"),
    ("url='http://a', rubric_id='page'", "rubric_id = 'page' has no effect"),
    ("url='http://a', judge_url='http://b', group_size=4", "does not go with judge_mode = 'rubric'"),
    ("url='http://a', judge_url='http://b', judge_mode='ranking'", "group_size = 1 does not go"),
    ("url='http://a', judge_url='http://b', judge_mode='ranking', group_size=4", "needs judge_deadline"),
    ("url='http://a', judge_url='http://b', on_deadline='drop'", "judge_deadline = 0 does not go"),
    ("url='http://a', judge_url='http://b', judge_mode='ranking', group_size=4, judge_turns=true",
     "judge_turns = True does not go"),
    ("url='http://a', judge_url='http://b', judge_deadline=9, on_deadline='model', judge_provider='model'",
     "which is asked already"),
    ("url='http://a', judge_url='http://b', judge_deadline=9", "does not go with on_deadline = 'wait'"),
    ("url='http://a', judge_url='http://b', judge_key_env='NOWHERE'", "NOWHERE.* not set"),
    ("url='http://a', judge_url='b'", "judge_url = 'b' is no address")])
def test_settings_that_cannot_be_or_have_no_effect_are_refused(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        make_task(f"task_app({settings})")


@pytest.mark.parametrize("row, reason", [({}, "has no `seed`.*data.seeds"), ({"seed": -1}, "from 0 to"),
                                         ({"seed": "3"}, "a string"), ({"seed": 2**31}, "from 0 to")])
def test_a_row_needs_the_number_of_an_instance(row, reason):
    with pytest.raises(UserError, match=reason):
        TaskApp("http://a").check_row(row, 0)


def test_a_rollout_is_asked_for_as_the_contract_has_it(base_url):
    with FakeTaskApp() as app, playing(app, policy_name="me", max_turns=3, timeout=50.0, run="r") as task:
        played(task, base_url)
        played(task, base_url)
        first, second = app.asked
    assert first["run_id"] != second["run_id"] and len(first["run_id"]) == 32
    assert first["env"] == {"env_id": None, "env_name": "fake", "seed": 7, "config": {"max_turns": 3}}
    assert first["policy"] == {"policy_id": None, "policy_name": "me", "config": {
        "model": "policy", "inference_url": base_url, "temperature": 0.8, "top_p": 0.95, "max_tokens": 64}}
    assert first["ops"] == ["agent", "env"] * 3 and first["on_done"] == "terminate"
    assert first["record"] == {"trajectories": True, "logprobs": False, "value": False, "return_trace": False,
                               "trace_format": "compact"}
    assert first["safety"] == {"max_ops": 100000, "max_time_s": 50}
    assert first["training_session_id"] == "r" and first["synth_base_url"] is None
    assert app.calls == {"/health": 1, "/info": 1}  # once for all episodes


TEXTS = ("one", "three")  # of rewards 0 and 1, and achievements never


@pytest.mark.parametrize("reward, expected", [("", 1.0), ("return", 1.0), ("outcome", 0.25)])
def test_an_episode_is_worth_what_the_setting_says(base_url, reward, expected):
    with FakeTaskApp(lambda body: told(body, TEXTS, outcome_score=0.25)) as app:
        with playing(app, reward=reward) as task:
            step = played(task, base_url)
    assert (step.reward, step.done, step.truncated, step.achieved) == (expected, True, False, ())
    assert step.info == {"event": reward_of("one"), "outcome": 0.25, "correct": 1.0, "words": 1.0}


@pytest.mark.parametrize("reward, expected", [("", [0.5, 1.0]), ("outcome", [0.0, 0.25])])
def test_each_call_gets_a_step_where_the_task_says_so(base_url, reward, expected):
    with FakeTaskApp(lambda body: told(body, ("four", "three"), outcome_score=0.25)) as app:
        with playing(app, reward=reward, by_calls=True) as task:
            steps = played(task, base_url)
    assert [step.reward for step in steps] == expected and [step.done for step in steps] == [False, True]
    assert [step.achieved for step in steps] == [("turn 0",), ("turn 0",)]
    assert steps[1].info["outcome"] == 0.25 and not steps[0].info


def test_achievements_may_be_an_object_of_truths(base_url):
    def play(body):
        answer = told(body, TEXTS)
        answer["trajectories"][0]["steps"][-1]["info"] = {"achievements": {"wood": True, "iron": False}}
        return answer

    with FakeTaskApp(play) as app, playing(app) as task:
        assert played(task, base_url).achieved == ("wood",)


@pytest.mark.parametrize("damage, settings", [("truncated", {}), ("undone", {"max_turns": 2}),
                                              ("undone", {"max_turns": 1})])
def test_a_rollout_that_a_limit_has_ended_counts_as_truncated(base_url, damage, settings):
    with FakeTaskApp(fault=damage) as app, playing(app, **settings) as task:
        step = played(task, base_url)
    assert step.done and step.truncated and step.reward == 1.0


@pytest.mark.parametrize("damage, status, message", [
    ("other run", Status.MALFORMED, "is of the run_id 'another'"),
    ("aborted", Status.STEP_FAILED, "has aborted the rollout"),
    ("twice", Status.MALFORMED, "has 2 trajectories"), ("none", Status.MALFORMED, "has 0 trajectories"),
    ("empty", Status.MALFORMED, "has no steps"), ("undone", Status.MALFORMED, "after 2 of 10 turns"),
    ("early", Status.MALFORMED, "step 1 of 2 is done"), ("length", Status.MALFORMED, "says length = 3"),
    ("unrewarded", Status.MALFORMED, "rewards no step: set reward='outcome'"),
    ("text", Status.MALFORMED, "reward is \"1\" .a string."),
    ("nan", Status.MALFORMED, "NaN is no JSON number"), ("no metrics", Status.MALFORMED, "has no metrics"),
    ("list", Status.MALFORMED, "a JSON object is needed"),
    ("hang", Status.TIMED_OUT, "did not answer within"),
    ("drop", Status.UNREACHABLE, "broke the connection"), ("500", Status.STEP_FAILED, "with status 500")])
def test_every_answer_that_is_none_has_its_status(base_url, damage, status, message):
    with FakeTaskApp(fault=damage) as app, playing(app, timeout=0.5 if damage == "hang" else 20.0) as task:
        with pytest.raises(EnvError, match=message) as failed:
            played(task, base_url)
        assert failed.value.status == status and not failed.value.final
        assert len(app.asked) == 1  # an app that may have begun is never asked a second time
        app.fault = ""
        assert played(task, base_url).reward == 1.0


def test_an_outcome_that_is_taken_for_the_reward_must_be_there(base_url):
    with FakeTaskApp(fault="unscored") as app, playing(app, reward="outcome") as task:
        with pytest.raises(EnvError, match="gives no metrics.outcome_score"):
            played(task, base_url)


@pytest.mark.parametrize("code, final", [("422", True), ("404", True), ("429", False), ("503", False)])
def test_a_request_that_the_app_cannot_use_is_not_made_again(base_url, code, final):
    with FakeTaskApp(fault=code) as app, playing(app) as task:
        with pytest.raises(EnvError) as failed:
            played(task, base_url)
    assert failed.value.final == final


def test_a_wrong_key_stops_the_run_and_shows_nowhere(base_url, monkeypatch):
    with FakeTaskApp(key="secret-key") as app:
        monkeypatch.delenv("ENVIRONMENT_API_KEY", raising=False)
        with playing(app) as task, pytest.raises(UserError, match="API_KEY' .*is not set") as unset:
            task.ready()
        monkeypatch.setenv("ENVIRONMENT_API_KEY", "wrong-key")
        with playing(app) as task, pytest.raises(UserError, match="refuses the API key") as wrong:
            task.ready()
        monkeypatch.setenv("OWN", "secret-key")
        with playing(app, api_key_env="OWN") as task:
            assert played(task, base_url).reward == 1.0
            app.key = "another"
            with pytest.raises(UserError, match="refuses the API key") as later:
                played(task, base_url)
            assert "secret" not in repr(task)
    assert all("wrong-key" not in str(error.value) and "secret" not in str(error.value)
               for error in (unset, wrong, later))


@pytest.mark.parametrize("spoil, message", [
    (lambda app: setattr(app, "healthy", False), "says that it is not healthy"),
    (lambda app: setattr(app, "healthy", None), "has no healthy"),
    (lambda app: setattr(app, "info", {}), "set env_name"),
    (lambda app: setattr(app, "info", []), "a JSON object is needed")])
def test_an_app_that_is_not_ready_stops_the_run_at_its_start(spoil, message):
    with FakeTaskApp() as app, playing(app) as task:
        spoil(app)
        with pytest.raises(UserError, match=message) as refused:
            task.ready()
        assert not isinstance(refused.value, EnvError)
        app.healthy, app.info = True, {"task": {"name": "plain"}}
        task.ready()  # once it is, it can be played
        assert task.env_name == "plain"


@pytest.mark.parametrize("limits, most", [
    ({"max_turns": 9}, 9), ({"ops": 18}, 9), ({"max_ops": 19.0}, 9), ({"max_turns": 10, "ops": 20}, None),
    ({"max_turns": "9", "ops": None, "max_ops": True}, None), ([9], None), ("9", None)])
def test_an_app_that_takes_fewer_turns_stops_the_run_at_its_start(limits, most):
    with FakeTaskApp() as app, playing(app, max_turns=10) as task:
        app.info["limits"] = limits
        refused = pytest.raises(UserError, match=f"max_turns to at most {most}")
        with refused if most else contextlib.nullcontext():
            task.ready()


@pytest.mark.parametrize("limits, sent", [
    ({}, 86400), ({"max_time_s": 600}, 600), ({"max_time_s": 1e6}, 86400)])
def test_a_rollout_has_a_day_or_what_the_app_gives_it(base_url, limits, sent):
    with FakeTaskApp() as app, playing(app) as task:
        app.info["limits"] = limits
        played(task, base_url)
    assert app.asked[0]["safety"]["max_time_s"] == sent


def test_an_app_that_is_not_there_is_told_before_the_first_episode():
    task = TaskApp(f"http://127.0.0.1:{free_port()}", patience=0)
    with contextlib.closing(task), pytest.raises(UserError, match="not ready: .*cannot be reached.*Start it"):
        task.ready()
    with pytest.raises(UserError, match="is closed"):
        task.ready()


def test_no_more_rollouts_are_at_work_than_max_concurrent_rollouts(base_url):
    go = threading.Event()

    def play(body):
        go.wait(30)
        return told(body, TEXTS)

    with FakeTaskApp(play) as app, playing(app, max_concurrent_rollouts=2) as task:
        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            steps = [threads.submit(played, task, base_url) for _ in range(6)]
            wait_until(lambda: app.working == 2)
            go.set()
            assert [each.result().reward for each in steps] == [1.0] * 6
    assert app.most == 2


class Judge:
    """Stands for a JudgeClient."""

    def __init__(self, verdict=None):
        self.verdict = verdict or Verdict(0.75, {"layout": 0.5}, (0.2, 0.4), "human", "well done")
        self.asked = []
        self.go = threading.Event()
        self.go.set()

    def score(self, work, **wishes):
        self.asked.append((work, wishes))
        self.go.wait(30)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    def close(self):
        pass


@contextlib.contextmanager
def judging(app, judge, **settings):
    with playing(app, judge_url="http://127.0.0.1:1", **settings) as task:
        task._judge = judge
        yield task


def test_a_judge_of_the_run_is_shown_the_trace_and_rewards_the_whole(base_url):
    judge = Judge()

    def play(body):
        answer = told(body, TEXTS)
        answer["trace"]["artifacts"] = [{"kind": "html", "content": "<p>"}]
        return answer

    with FakeTaskApp(play) as app, judging(app, judge, judge_turns=True, run="r") as task:
        step = played(task, base_url)
        assert app.asked[0]["record"]["return_trace"] is True
    (work, wishes), = judge.asked
    assert work == Work("Instance 7.", TEXTS, (Part("html", "<p>"),))
    assert wishes == {"policy_name": "", "task_app_id": "fake", "turns": True, "mode": "rubric", "run": "r"}
    assert step.reward == 0.75
    assert step.notes == {"run_id": app.asked[0]["run_id"], "note": "none", "judge": "human",
                          "judge_answer": "well done"}
    assert step.info["event"] == pytest.approx(0.3) and step.info["outcome"] == 0.75
    assert step.info["judge_layout"] == 0.5


def test_a_trace_of_another_form_is_judged_by_the_steps_as_they_are(base_url):
    judge = Judge()
    with FakeTaskApp(lambda body: told(body, TEXTS) | {"trace": {"session": 3}}) as app:
        with judging(app, judge, reward="return") as task:
            assert played(task, base_url).reward == 1.0  # the judge's numbers are there for a blend
    work = judge.asked[0][0]
    assert work.task == "Task 7." and json.loads(work.turns[1])["tool_calls"][0]["arguments"] == "three"


def test_works_of_a_group_are_compared_with_each_other(base_url):
    judge = Judge(Verdict(0.25))
    with FakeTaskApp() as app, judging(app, judge, judge_mode="pairwise", group_size=2, judge_deadline=9.0,
                                       on_deadline="drop", run="r") as task:
        for seed in (5, 5, 6):
            task.open(ROW, seed).play(base_url)
    assert [(work.group, work.group_size) for work, _ in judge.asked] == [("r/5", 2), ("r/5", 2), ("r/6", 2)]


def test_rollouts_go_on_while_works_are_out_to_the_judge_of_the_run(base_url):
    judge = Judge()
    judge.go.clear()
    with FakeTaskApp() as app, judging(app, judge, max_concurrent_rollouts=1) as task:
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            steps = [threads.submit(played, task, base_url) for _ in range(4)]
            wait_until(lambda: len(app.answers) == 4)
            assert len(judge.asked) == 1  # one is out; the others wait for its room, and have been played
            judge.go.set()
            assert [each.result().reward for each in steps] == [0.75] * 4


def test_what_a_judge_fails_with_is_the_episodes_failure(base_url):
    judge = Judge(EnvError(Status.TIMED_OUT, "nobody has judged it", True))
    with FakeTaskApp() as app, judging(app, judge) as task:
        with pytest.raises(EnvError, match="nobody has judged it") as failed:
            played(task, base_url)
    assert failed.value.final and failed.value.status == Status.TIMED_OUT


def test_closing_the_task_ends_a_rollout_that_hangs(base_url):
    with FakeTaskApp(fault="hang") as app, playing(app) as task:
        failures = []

        def wait():
            try:
                played(task, base_url)
            except EnvError as error:
                failures.append(error.status)
        thread = threading.Thread(target=wait)
        thread.start()
        wait_until(lambda: app.asked)
        task.close()
        thread.join(10)
        assert failures == [Status.UNREACHABLE]
        with pytest.raises(UserError, match="is closed"):
            played(task, base_url)


def test_an_app_that_is_started_again_is_waited_for(base_url, monkeypatch):
    monkeypatch.setattr("jaxrl_moe.outgoing.calls.KNOCK_SECONDS", 0.02)
    with FakeTaskApp() as app:
        task = TaskApp(app.url)
        task.ready()
    with contextlib.closing(task), concurrent.futures.ThreadPoolExecutor(1) as threads:
        step = threads.submit(played, task, base_url)
        wait_until(lambda: task._server._long._lost)
        with FakeTaskApp(port=int(app.url.rpartition(":")[2])) as again:
            assert step.result().reward == 1.0 and len(again.asked) == 1


def test_the_fake_app_rewards_what_it_says():
    body = {"run_id": "1", "env": {"seed": 3}, "record": {"return_trace": True}}
    answer = scripted("one", "four")(body)
    steps = answer["trajectories"][0]["steps"]
    assert [step["reward"] for step in steps] == [0.0, 0.5] and answer["metrics"]["mean_return"] == 0.5
    assert [step["info"]["achievements"] for step in steps] == [[], ["turn 1"]]
    assert list(itertools.accumulate(step["done"] for step in steps)) == [0, 1]
