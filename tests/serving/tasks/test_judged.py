"""What a judge says reaches the answer; what it does not say is no reward of zero."""
import threading

import httpx
import pytest

from jaxrl_moe.judges.records import Verdict, verdict_of, verdict_plain, work_of
from jaxrl_moe.judges.rubrics import read_rubrics
from jaxrl_moe.serving.tasks.agora.texts import AgoraTexts
from jaxrl_moe.serving.tasks.judging import JudgeOptions, checked_options
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.json_server import json_server
from tests.helpers.task_apps import good_text, policy, request, task_app
from tests.helpers.waiting import wait_until

JUDGE = JudgeOptions(url="http://127.0.0.1:1", provider="model")


class Scorer:
    """A judge's client in this process."""

    def __init__(self, say):
        self.say = say
        self.asked = []
        self.closed = 0

    def score(self, work, **options):
        self.asked.append((work, options))
        return self.say(work) if callable(self.say) else self.say

    def close(self):
        self.closed += 1


def judged(scorer, *texts, judge=JUDGE, **others):
    with task_app(judge=judge, scorer=lambda: scorer) as (http, _), policy(*texts) as (url, _):
        return http.post("/rollout", json=request(url, **others))


def test_the_outcome_is_the_judges_and_the_turns_are_the_rules():
    scorer = Scorer(Verdict(0.25, {"brief": 0.5}, (), "gpt-oss-120b", "I think so."))
    answer = judged(scorer, "Hello.", good_text(), training_session_id="run 7").json()
    metrics = answer["metrics"]
    assert metrics["outcome_score"] == 0.25 and metrics["episode_returns"] == [pytest.approx(9 / 7)]
    assert metrics["details"]["judge"] == verdict_plain(scorer.say)
    assert metrics["details"]["judge"]["details"]["raw"] == "I think so."
    assert answer["trajectories"][0]["final"]["reward"] == 0.25
    [(work, options)] = scorer.asked
    assert work.turns == ("Hello.", good_text()) and work.parts[0].content == good_text()
    assert options == {"policy_name": "writer", "task_app_id": "agora_ex_text", "rubric": AgoraTexts.rubric,
                       "turns": False, "run": "run 7"}
    assert scorer.closed


def test_a_judge_that_is_asked_for_them_scores_the_turns():
    judge = JudgeOptions(url="http://127.0.0.1:1", turns=True)
    answer = judged(Scorer(Verdict(1.0, {}, (0.3, 0.4), "j")), "Hello.", good_text(), judge=judge).json()
    assert [step["reward"] for step in answer["trajectories"][0]["steps"]] == [0.3, 0.4]
    assert answer["metrics"]["events_score"] == pytest.approx(0.35)
    assert answer["metrics"]["details"]["events_by"] == "judge"
    short = judged(Scorer(Verdict(1.0, {}, (0.3,), "j")), "Hello.", good_text(), judge=judge)
    assert short.status_code == 502 and "1 rewards for 2 turns" in short.json()["error"]["message"]


def test_a_judge_that_fails_is_no_reward_of_zero():
    def fail(work):
        raise EnvError(Status.TIMED_OUT, "http://127.0.0.1:1 did not answer within 45 seconds.")
    scorer = Scorer(fail)
    answer = judged(scorer, good_text())
    assert answer.status_code == 502 and answer.json()["error"]["code"] == "timed_out" and scorer.closed


def test_a_work_that_a_judge_has_dropped_is_not_to_be_tried_again():
    class Dropped(EnvError):
        final = True

    def drop(work):
        raise Dropped(Status.TIMED_OUT, "there was no verdict within 60 seconds.")
    assert judged(Scorer(drop), good_text()).status_code == 424


def test_what_cannot_be_judged_is_not_sent_to_a_judge():
    scorer = Scorer(Verdict(1.0))
    empty = judged(scorer, "").json()
    assert empty["metrics"]["outcome_score"] == 0 and not scorer.asked
    assert "nothing was handed in" in empty["metrics"]["details"]["outcome_by"]
    aborted = judged(scorer, "Hello.", safety={"max_ops": 2}).json()
    assert aborted["aborted"] and aborted["metrics"]["outcome_score"] is None and not scorer.asked


def test_a_rollout_that_waits_for_a_judge_ends_with_its_caller():
    class Waiting(Scorer):
        def __init__(self):
            super().__init__(None)
            self.go = threading.Event()

        def score(self, work, **options):
            self.asked.append(work)
            assert self.go.wait(30)
            raise EnvError(Status.UNREACHABLE, "it was given up.")

        def close(self):
            self.go.set()
    scorer = Waiting()

    with task_app(judge=JUDGE, scorer=lambda: scorer) as (http, service), policy(good_text()) as (url, _):
        with pytest.raises(httpx.TimeoutException):
            http.post("/rollout", json=request(url), timeout=1.0)
        wait_until(lambda: service.rollouts.ended == {"stopped": 1})
    assert len(scorer.asked) == 1


def test_over_http_with_the_judges_client():
    scores = {"follows_request": 1.0, "structure": 0.5, "language": 0.0, "substance": 0.0, "complete": 1.0}

    def answer(path, body, headers):
        assert path.partition("?")[0] == "/api/judge/v1/score"
        assert headers["Authorization"] == "Bearer judge-key"
        work = work_of(body["trace"], "trace")
        assert body["options"]["provider"] == "model" and body["task_app"]["id"] == "agora_ex_text"
        return verdict_plain(Verdict(AgoraTexts.rubric.total(scores), scores, (), "a rule", work.turns[-1]))
    with json_server(answer) as (url, asked), policy(good_text()) as (policy_url, calls), \
            task_app(judge=JudgeOptions(url=url, api_key="judge-key", provider="model")) as (http, _):
        got = http.post("/rollout", json=request(policy_url))
    assert got.status_code == 200, got.text
    assert got.json()["metrics"]["outcome_score"] == pytest.approx(0.55) and len(asked) == 1
    assert asked[0].body["options"]["rubric_overrides"] == read_rubrics()["agora_text"].plain()
    said = verdict_of(got.json()["metrics"]["details"]["judge"], "the details")
    assert said.scores == scores and said.raw == good_text()
    assert "judge-key" not in got.text and not any("judge-key" in str(call.headers) for call in calls)


@pytest.mark.parametrize("options, message", [
    (dict(turns=True), "--judge_turns changes nothing without a judge"),
    (dict(deadline=5.0), "--judge_deadline changes nothing"), (dict(api_key="k"), "--judge_key_env changes"),
    (dict(url="http://127.0.0.1:1", on_deadline="wait"), "--judge_on_deadline='wait' is not known")])
def test_options_of_a_judge_that_change_nothing_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        checked_options(JudgeOptions(**options))
