"""How long a run waits for its judges: the seed's numbers, and what a recipe and its task say."""
import dataclasses
import math
from typing import Literal

import pytest

from jaxrl_moe.config import ConfigError, base, resolve
from jaxrl_moe.envs import TASKS
from jaxrl_moe.envs.registry import declared
from jaxrl_moe.envs.single_turn import SingleTurnTask
from jaxrl_moe.judges.records import MODES
from jaxrl_moe.planning.waiting import (
    ANSWERS,
    NOTHING_SAID,
    JudgingTimes,
    evaluations,
    waiting,
    waiting_lines,
)
from jaxrl_moe.types import Step


@dataclasses.dataclass
class Judged(SingleTurnTask):
    """A task whose answers people judge, or a model."""
    url: str
    judge_provider: str = ""
    max_concurrent_rollouts: int = 4
    judge_mode: Literal["rubric", "pairwise", "ranking"] = "rubric"

    def check_row(self, row, index):
        pass

    def grade(self, row, action):
        return Step(0.0)


@pytest.fixture(autouse=True)
def task(monkeypatch):
    monkeypatch.setitem(TASKS, "judged_by_somebody", Judged)


def recipe(name="gsm8k", **settings):
    config = base()
    config.env.name = name
    config.rollout.prompts_per_step = 8
    config.rollout.group_size = 4
    config.train.steps = 12
    config.update_from_flattened_dict(settings)
    return resolve(config)


BY_PEOPLE = "judged_by_somebody(url='http://127.0.0.1:8101', judge_provider='human')"


def text(config, asked=NOTHING_SAID):
    return " ".join(waiting_lines(waiting(config, asked)))


def test_the_seeds_384_rollouts_wait_16_hours_at_10_minutes_and_4_at_a_time():
    judged = waiting(recipe(BY_PEOPLE), JudgingTimes())
    assert (judged.answers, judged.minutes, judged.at_once) == (12 * 8 * 4, 10.0, 4)
    assert judged.hours(10.0) == 384 * 10 / 4 / 60 == 16.0
    assert judged.hours_of_work == 384 * 10 / 60 == 64.0
    assert (judged.hours(5.0), judged.hours(30.0)) == (8.0, 48.0)
    said = text(recipe(BY_PEOPLE))
    for words in ("384 rollouts (12 steps of 32)", "10.0 min each, 4 at a time: 16.0 h", "8.0 h to 48.0 h",
                  "64.0 h of judging"):
        assert words in said, words


def test_a_model_of_10_seconds_takes_16_minutes_and_not_the_seeds_2_hours():
    judged = waiting(recipe(), JudgingTimes(10 / 60, 4))
    assert judged.hours(judged.minutes) * 60 == pytest.approx(384 * 10 / 4 / 60) == pytest.approx(16)
    assert judged.hours_of_work * 60 == pytest.approx(64)
    assert "10 s each, 4 at a time: 16.0 min" in text(recipe(), JudgingTimes(10 / 60, 4))


@pytest.mark.parametrize("group, at_once", [(4, 1), (4, 3), (5, 4), (1, 7), (4, 100)])
def test_a_step_waits_until_its_last_answer_is_there(group, at_once):
    minutes = 7.0
    judged = waiting(recipe(**{"rollout.group_size": group, "algorithm.advantage": "none"}
                            if group == 1 else {"rollout.group_size": group}), JudgingTimes(minutes, at_once))
    clock = 0.0
    for _ in range(12):
        judges = [clock] * at_once
        for _ in range(8 * group):
            first = judges.index(min(judges))
            judges[first] += minutes
        clock = max(judges)
    assert judged.hours(minutes) == pytest.approx(clock / 60)


def test_people_are_asked_about_only_where_a_task_or_the_user_says_so():
    assert waiting(recipe(), JudgingTimes()) is None
    assert waiting(recipe("judged_by_somebody(url='x', judge_provider='groq')"), JudgingTimes()) is None
    assert waiting(recipe(""), JudgingTimes()) is None
    assert waiting(recipe(), JudgingTimes(at_once=2)).at_once == 2
    few = BY_PEOPLE.replace(")", ", max_concurrent_rollouts=2)")
    assert waiting(recipe(few), JudgingTimes()).at_once == 2
    assert waiting(recipe(few), JudgingTimes(at_once=3)).at_once == 3
    assert waiting(recipe(few), JudgingTimes(minutes=20.0)).hours(20.0) == 384 / 2 * 20 / 60
    unbounded = BY_PEOPLE.replace(")", ", max_concurrent_rollouts=0)")
    assert waiting(recipe(unbounded), JudgingTimes()).hours(10.0) == 12 * 10 / 60


@pytest.mark.parametrize("mode, unit, answers", [
    ("rubric", "rollouts", 12 * 8 * 4), ("ranking", "groups", 12 * 8), ("pairwise", "pairs", 12 * 8 * 6)])
def test_works_that_are_compared_share_an_answer(mode, unit, answers):
    assert set(ANSWERS) == set(MODES)
    config = recipe(BY_PEOPLE.replace(")", f", judge_mode='{mode}')"))
    assert waiting(config, JudgingTimes()).answers == answers
    assert f"{answers} {unit} (12 steps" in text(config)


def test_the_settings_of_a_task_are_read_without_making_it():
    assert declared("judged_by_somebody(url='x')") == {"url": "x", "judge_provider": "",
                                                       "max_concurrent_rollouts": 4, "judge_mode": "rubric"}
    assert declared("package.that.is.not.there:Task") == declared("") == {}
    for spec, message in (("(url=)", "cannot be read"), ("(judge_url='x')", "no setting 'judge_url'"),
                          ("", "needs the setting 'url'"), ("(url='x', judge_mode='rank')", "judge_mode")):
        with pytest.raises(ConfigError, match=message):
            declared(f"judged_by_somebody{spec}")


@pytest.mark.parametrize("every, at_start, steps, expected", [
    (0, True, 12, 2), (0, False, 12, 1), (4, True, 12, 4), (5, False, 12, 3), (100, True, 12, 2),
    (1, False, 3, 3), (4, True, 0, 1)])
def test_evaluations_are_counted_as_the_loop_has_them(every, at_start, steps, expected):
    config = recipe(**{"data.eval_path": "x", "eval.every": every, "eval.at_start": at_start,
                       "train.steps": steps})
    due = [step for step in range(1, steps + 1) if step >= steps or every and step % every == 0]
    assert evaluations(config) == len(due) + at_start == expected
    assert evaluations(recipe()) == 0


def test_the_rollouts_of_evaluations_are_counted_apart():
    held_out = {"data.eval_path": "x", "eval.every": 4, "eval.prompts": 10, "eval.samples": 2,
                "eval.greedy": True}
    judged = waiting(recipe(BY_PEOPLE, **held_out), JudgingTimes())
    assert judged.answers == 384
    assert (judged.evaluations, judged.per_evaluation) == (4, 30)
    assert judged.hours_of_evaluations(10.0) == 4 * math.ceil(30 / 4) * 10 / 60
    assert "evaluations: 4 of 30 rollouts: another 5.3 h" in text(recipe(BY_PEOPLE, **held_out))
    unknown = text(recipe(BY_PEOPLE, **held_out | {"eval.prompts": 0}))
    assert "4 of 3 rollouts for each held-out prompt" in unknown
    seeds = held_out | {"data.eval_path": "", "data.eval_seeds": "5-8"}
    assert waiting(recipe(BY_PEOPLE, **seeds), JudgingTimes()).per_evaluation == 4 * 3
    assert waiting(recipe(BY_PEOPLE, **seeds | {"eval.prompts": 0}), JudgingTimes()).per_evaluation == 4 * 3
