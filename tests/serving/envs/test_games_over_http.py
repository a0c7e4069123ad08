"""The real environments: an episode over HTTP is, step for step, the one in process."""
import contextlib

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.alfworld import oracle as house_oracle
from jaxrl_moe.envs.text.babyai import rows
from jaxrl_moe.envs.text.sciworld.oracle import gold_actions
from jaxrl_moe.envs.text.textcraft.goals import goal_set
from jaxrl_moe.envs.text.textcraft.planner import plan
from jaxrl_moe.envs.text.webshop import rows as shop_rows
from jaxrl_moe.types import EnvError, Status
from tests.helpers.env_servers import env_server, played
from tests.helpers.game_engines import skip_without_engine
from tests.helpers.waiting import wait_until

ODD = ["Thought: what have I?\n\nAction:\ninventory", "Action: a\nAction: b", "no command at all", ""]


@contextlib.contextmanager
def both(env, spec):
    """(the task in process, the same over HTTP)."""
    local = make_task(spec)
    with env_server(make_task(spec), env) as (url, service):
        with contextlib.closing(make_task(f"agentgym(env={env!r}, url={url!r})")) as remote:
            assert remote.max_turns == local.max_turns and remote.deterministic == local.deterministic
            assert remote.lowest_reward == local.lowest_reward
            yield local, remote
        assert service.sessions.held == 0


@pytest.mark.parametrize("recipes, every", [("small", 300), ("minecraft", 40)])
def test_textcraft_over_http_is_textcraft_in_process(recipes, every):
    goals = goal_set(recipes)
    with both("textcraft", f"textcraft(recipes={recipes!r})") as (local, remote):
        for number in range(0, len(goals.goals), every):
            row = {"id": number, "recipes": recipes}
            commands = plan(goals.book, goals.goals[number]).commands
            answers = ODD + [f"Thought:\nNow.\n\nAction:\n{command}" for command in commands]
            expected = played(local.open(row, 0), answers)
            assert played(remote.open(row, 0), answers) == expected and expected[-1].reward == 1
        for row, reason in (({"id": 0, "recipes": "other"}, "The row is of the recipes 'other'"),
                            ({"id": len(goals.goals)}, f"There is no goal {len(goals.goals)}: the recipes")):
            with pytest.raises(EnvError, match=reason) as refused, contextlib.closing(
                    remote.open(row, 0)) as env:
                env.reset()
            assert refused.value.status == Status.RESET_FAILED


@pytest.mark.parametrize("spec", ["babyai", "babyai(binary=true, steps=6)"])
def test_babyai_over_http_is_babyai_in_process(spec):
    rewards = []
    with both("babyai", spec) as (local, remote):
        for row in rows.conversations(12, 0, "test", False):
            answers = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
            answers[1:1] = ODD
            expected = played(local.open(row, 0), answers)
            assert played(remote.open(row, 0), answers) == expected
            rewards.append(expected[-1].reward)
    assert max(rewards) > 0


def shopping(task):
    return [(row["id"], [message["content"] for message in row["messages"] if message["role"] == "assistant"])
            for row in shop_rows.conversations(4, 0, "test", False)]


def science(task):
    return [(number, [f"Action:\n{command}" for command in gold_actions(task, {"id": number})])
            for number in (3236, 4240)]  # find-non-living-thing, lifespan-longest-lived: of a few turns


def household(task):
    won = ((number, house_oracle.commands(task, {"id": number})) for number in range(8))
    return [(number, [f"Action:\n{each}" for each in commands]) for number, commands in won if commands]


@pytest.mark.slow
@pytest.mark.parametrize("env, spec, plays", [
    ("webshop", "webshop", shopping), ("sciworld", "sciworld", science),
    ("alfworld", "alfworld(games='rooms')", household)])
def test_games_of_other_engines_over_http_are_those_in_process(env, spec, plays):
    skip_without_engine(env)
    with contextlib.closing(make_task(spec)) as local:
        local.ready()
        with env_server(make_task(spec), env) as (url, service):
            with contextlib.closing(make_task(f"agentgym(env={env!r}, url={url!r})")) as remote:
                assert (remote.max_turns, remote.score_range) == (local.max_turns, local.score_range)
                for number, answers in plays(local):
                    answers = ["no command at all", *answers]
                    expected = played(local.open({"id": number}, 0), answers)
                    assert played(remote.open({"id": number}, 0), answers) == expected
                    assert sum(step.reward for step in expected[1:]) == pytest.approx(1)
            wait_until(lambda: service.sessions.held == 0)
