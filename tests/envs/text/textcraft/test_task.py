"""TextCraft as a task: rows, settings, episodes."""
import threading

import pytest

from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.textcraft import TextCraft, minecraft
from jaxrl_moe.envs.text.textcraft.goals import goal_set
from jaxrl_moe.envs.text.textcraft.planner import plan
from jaxrl_moe.protocols import Task
from jaxrl_moe.types import Action, UserError


def small(**settings):
    return TextCraft(recipes="small", **settings)


def act(env, text):
    return env.step(Action(text, 5, False))


def number_of(item, count=1):
    return next(number for number, goal in enumerate(goal_set("small").goals)
                if (goal.item, goal.count) == (item, count) and not goal.stock)


def test_an_episode_tells_rewards_achievements_and_the_share_of_commands_that_did_something():
    env = small(distractors=0).open({"id": number_of("stick"), "prompt": "Craft."}, 7)
    (first,) = env.reset()
    assert first["role"] == "user" and first["content"].endswith("\n\nGoal: craft stick.")
    step = act(env, "Thought:\nWood.\n\nAction:\nget 1 oak log")
    assert step.observation == ({"role": "user", "content": "Got 1 oak log"},)
    assert (step.reward, step.done, step.achieved) == (0, False, ())
    assert step.info == {"correct": 0, "valid": 1}
    step = act(env, "Action: get 1 oak log\nAction: craft 2 oak plank using 1 oak log")
    assert "Only one \"Action:\"" in step.observation[0]["content"] and step.info["valid"] == 0.5
    act(env, "Action: craft 2 oak plank using 1 oak log")
    step = act(env, "craft 2 stick using 1 oak plank")
    assert (step.reward, step.done, step.observation) == (1, True, ())
    assert step.info == {"correct": 1, "valid": 0.75} and step.achieved == ("oak plank", "stick")
    with pytest.raises(UserError, match="ended: open another"):
        act(env, "inventory")


@pytest.mark.parametrize("text", ["", "\x00\ud800", "dance " * 200_000, "Action:\n" + "get 1 clay " * 100_000,
                                  "<think>Action: get 1 clay", "Action: get " + "9" * 900 + " clay",
                                  "Action:" * 100_000], ids=range(7))
def test_whatever_a_policy_writes_costs_a_turn_and_is_answered(text):
    env = small().open({"id": 0}, 0)
    env.reset()
    step = act(env, text)
    assert not step.done and step.reward == 0 and step.info == {"correct": 0, "valid": 0}
    assert 0 < len(step.observation[0]["content"]) < 300


def test_an_episode_is_reset_once_first_and_closed_for_good():
    env = small().open({"id": 0}, 0)
    with pytest.raises(UserError, match="not begun: reset it first"):
        act(env, "inventory")
    env.reset()
    with pytest.raises(UserError, match="begun already"):
        env.reset()
    env.close()
    env.close()
    with pytest.raises(UserError, match="ended"):
        act(env, "inventory")


def test_a_row_names_its_goal_by_id_or_item_id_and_the_seed_changes_nothing():
    task = small()
    texts = [task.open(row, seed).reset() for row, seed in (
        ({"id": 12}, 0), ({"item_id": "textcraft_12", "recipes": "small"}, 5),
        ({"id": 12, "item_id": "textcraft_12", "recipes": None}, 9))]
    assert texts[0] == texts[1] == texts[2] != task.open({"id": 13}, 0).reset()


@pytest.mark.parametrize("row, reason", [
    ({}, "needs the number of an episode, .* but has neither"), ({"item_id": "babyai_3"}, "'babyai_3'"),
    ({"id": -1}, "has id = -1"), ({"id": 10**100}, "has id = 1000"),
    ({"id": 2779}, "no goal 2779: the recipes 'small' have 2779, numbered from 0"),
    ({"id": 3, "recipes": "minecraft"}, "row is of the recipes 'minecraft', and the task has 'small'")])
def test_a_row_that_names_no_goal_is_refused(row, reason):
    with pytest.raises(UserError, match=reason):
        small().check_row(row, 0)


def test_a_limit_of_depth_leaves_out_the_last_goals():
    task = small(max_depth=1)
    most = goal_set("small").within(1)
    task.check_row({"id": most - 1}, 0)
    with pytest.raises(UserError, match=f"the recipes 'small' have {most} of depth 1 or less, numbered"):
        task.check_row({"id": most}, 0)


@pytest.mark.parametrize("settings, reason", [
    ("max_turns=0", "max_turns = 0 is out of range: it must be at least 1"),
    ("max_depth=-1", "max_depth = -1 is out of range"),
    ("distractors=-2", "distractors = -2 is out of range"),
    ("recipes='large'", "recipes = 'large' must be of type"), ("max_turns=2.5", "must be of type int"),
    ("turns=3", "has no setting 'turns'.* Did you mean 'max_turns'")])
def test_settings_are_checked(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        make_task(f"textcraft({settings})")


def test_making_the_task_reads_nothing_and_its_settings_reach_it(monkeypatch):
    monkeypatch.setattr(minecraft, "read_book", lambda folder: pytest.fail("read"))
    task = make_task("textcraft(max_turns=7, max_depth=2, distractors=0)")
    assert isinstance(task, TextCraft) and Task in type(task).__mro__
    assert (task.recipes, task.max_turns, task.max_depth, task.distractors) == ("minecraft", 7, 2, 0)
    assert (task.concurrent, task.deterministic, task.lowest_reward) == (True, True, 0)
    assert make_task("textcraft").max_turns == 20 and task.tools({}) == ()


def test_episodes_in_several_threads_know_nothing_of_each_other():
    task = small()
    goals = goal_set("small")
    numbers = range(0, 2700, 90)
    ends = {}

    def run(offset):
        envs = {number: task.open({"id": number}, 0) for number in numbers[offset::4]}
        ahead = {number: list(plan(goals.book, goals.goals[number]).commands) for number in envs}
        for env in envs.values():
            env.reset()
        while ahead:
            for number in list(ahead):
                step = act(envs[number], ahead[number].pop(0))
                if not ahead[number]:
                    ends[number] = step.reward, step.done, step.achieved[-1]
                    del ahead[number]

    threads = [threading.Thread(target=run, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == {number: (1, True, goals.goals[number].item) for number in numbers}
