"""The task: rows, settings, rewards, and episodes that know nothing of each other."""
import concurrent.futures
import copy
import importlib.util
import random

import pytest

from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.babyai.episode import BabyAIEpisode
from jaxrl_moe.envs.text.babyai.levels import data_index, make_world
from jaxrl_moe.envs.text.babyai.task import BabyAI
from jaxrl_moe.types import Action, UserError

GO_TO_RED_BALL = data_index(3, 2)


def act(episode, text):
    return episode.step(Action(text, 3, False))


def played(index, seed, turns=15):
    """All that an episode of random actions, some of which are none, shows and gives."""
    generator = random.Random(seed)
    episode = BabyAIEpisode(index)
    told = [episode.reset()]
    while len(told) < turns:
        step = act(episode, generator.choice([*episode.scene.actions, "dance", "go to red ball 1"]))
        told.append(step)
        if step.done:
            break
    return told


def solved(episode):
    """The last step of a red ball gone to."""
    episode.reset()
    for _ in range(10):
        wanted = "go to red ball 1"
        step = act(episode, wanted if wanted in episode.scene.actions else "turn left")
        if step.done:
            return step
    raise AssertionError("no red ball")


@pytest.mark.parametrize("row, message", [
    ({}, "needs the number of an episode"), ({"item_id": "textcraft_3"}, "\"babyai_N\" in `item_id`"),
    ({"id": 2**31}, "from 0 to 2147483647")])
def test_rows_that_name_none_are_refused(row, message):
    with pytest.raises(UserError, match=message):
        BabyAI().check_row(row, 0)


def test_rows_of_levels_that_are_left_out_are_refused():
    task = make_task("babyai(levels='GoToRedBall,13')")
    task.check_row({"id": data_index(13, 5)}, 0)
    with pytest.raises(UserError, match=r"level 3 \(GoToRedBallNoDists\).*leave the row out"):
        task.check_row({"id": data_index(3, 0)}, 0)


@pytest.mark.parametrize("settings, message", [
    ("max_turns=0", "max_turns = 0 is out of range"), ("steps=-1", "steps = -1 is out of range"),
    ("levels=3", "must be of type str"), ("levels='NoLevel'", "no level"), ("turns=3", "no setting 'turns'"),
    ("binary=1", "must be of type bool")])
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_task(f"babyai({settings})")


def test_without_minigrid_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "minigrid" else find(name))
    with pytest.raises(ConfigError, match=r"needs minigrid.*\.\[agents\]"):
        make_task("babyai")


def test_minigrids_own_word_for_done_is_refused(monkeypatch):
    monkeypatch.setenv("BABYAI_DONE_ACTIONS", "1")
    with pytest.raises(ConfigError, match="BABYAI_DONE_ACTIONS is set"):
        make_task("babyai")


def test_the_reward_is_minigrids_and_comes_with_the_last_action():
    episode = BabyAIEpisode(GO_TO_RED_BALL)
    last = solved(episode)
    moves = last.info["moves"]
    assert last.reward == pytest.approx(1 - 0.9 * moves / make_world(GO_TO_RED_BALL).max_steps)
    assert last.info == {"correct": 1.0, "score": last.reward, "valid": 1.0, "moves": moves}
    assert last.done and last.observation == () and episode.is_fulfilled
    assert solved(BabyAIEpisode(GO_TO_RED_BALL, binary=True)).reward == 1.0


def test_an_episode_ends_without_reward_after_its_moves():
    step = solved(BabyAIEpisode(GO_TO_RED_BALL, steps=1))
    assert step.done and step.reward == 0 and step.info["correct"] == 0 and step.info["moves"] == 1
    fewer = solved(BabyAIEpisode(GO_TO_RED_BALL, steps=20))
    assert fewer.reward == pytest.approx(1 - 0.9 * fewer.info["moves"] / 20)


@pytest.mark.parametrize("text, said", [
    ("Action: dance", "There is no action 'dance'"), ("", "You gave no action"),
    ("Action: turn left\nAction: turn left", "Only one"), ("<think>turn left</think>", "You gave no action"),
    ("<think>turn left", "You gave no action"), ("go to red ball 9", "You see no red ball 9"),
    ("turn left " * 10**5, "There is no action"), ("🙂\x00", "You gave no action")])
def test_what_is_no_action_changes_nothing_and_costs_a_turn(text, said):
    episode = BabyAIEpisode(GO_TO_RED_BALL)
    episode.reset()
    before = copy.deepcopy(episode.world).hash()
    for _ in range(2):
        step = act(episode, text)
        assert not step.done and step.reward == 0 and step.info["valid"] == 0
        (message, ) = step.observation
        assert message["role"] == "user" and message["content"].startswith(said)
        assert message["content"].split("\n")[-1].startswith("Available actions: turn left, turn right")
        assert len(message["content"]) < 1000
    assert episode.world.hash() == before and episode.world.step_count == 0


@pytest.mark.parametrize("text", ["turn left", "Turn Left.", "Action: turn left", "Action:\nturn left",
                                  "Thought:\nAround.\n\nAction:\nturn left",
                                  "<think>Action: drop</think>turn left"])
def test_answers_of_agentgyms_form_are_read(text):
    episode = BabyAIEpisode(GO_TO_RED_BALL)
    episode.reset()
    heading = episode.world.agent_dir
    step = act(episode, text)
    assert step.info["valid"] == 1 and episode.world.agent_dir == (heading - 1) % 4


def test_looking_again_shows_the_same_and_moves_nothing():
    episode = BabyAIEpisode(GO_TO_RED_BALL)
    shown = episode.reset()[0]["content"]
    step = act(episode, "check available actions")
    assert shown == f"Your goal: {episode.mission}\n{step.observation[0]['content']}"
    assert (step.info["moves"], step.info["valid"]) == (0, 1)


def test_an_episode_begins_once_and_ends_once():
    episode = BabyAIEpisode(GO_TO_RED_BALL)
    with pytest.raises(UserError, match="has not begun"):
        act(episode, "turn left")
    solved(episode)
    with pytest.raises(UserError, match="has ended"):
        act(episode, "turn left")
    with pytest.raises(UserError, match="has begun already"):
        episode.reset()
    closed = BabyAIEpisode(GO_TO_RED_BALL)
    closed.close()
    closed.close()
    with pytest.raises(UserError):
        closed.reset()


def test_the_seed_of_a_group_decides_nothing():
    task = BabyAI()
    first, second = (task.open({"id": GO_TO_RED_BALL}, seed) for seed in (0, 1))
    assert first.reset() == second.reset()
    assert (task.concurrent, task.deterministic, task.max_turns, task.lowest_reward) == (True, True, 20, 0.0)


def test_episodes_in_threads_go_as_they_go_alone():
    indices = [data_index(level, 1) for level in range(1, 41)]
    alone = [played(index, index) for index in indices]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        together = list(threads.map(played, indices * 2, indices * 2))
    assert together == alone * 2


def test_interleaved_episodes_of_one_world_keep_apart():
    first, second = (BabyAIEpisode(data_index(5, 1)) for _ in range(2))
    first.reset()
    shown = second.reset()[0]["content"].split("\n", 1)[1]
    for action in ("turn right", "move forward", "turn right"):
        act(first, action)
        assert act(second, "check available actions").observation[0]["content"] == shown
    assert first.world.hash() != second.world.hash()
