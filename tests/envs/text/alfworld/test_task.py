"""ALFWorld as a task, with a worker that stands for the package's: rows, settings, episodes."""
import json

import pytest

from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.alfworld import AlfWorld
from jaxrl_moe.envs.text.alfworld.episode import spelt
from jaxrl_moe.envs.text.alfworld.library import write_index
from jaxrl_moe.envs.text.alfworld.rows import episodes
from jaxrl_moe.types import Action, EnvError, ToolCall, UserError
from tests.helpers.fake_alfworld import ACTIONS, python_of


@pytest.fixture
def task(tmp_path):
    made = AlfWorld(games="small", python=python_of(tmp_path))
    yield made
    made.close()


def act(env, text, *calls):
    return env.step(Action(text, 5, False, calls))


def test_an_episode_shows_what_can_be_done_and_is_won(task):
    env = task.open({"id": 4, "prompt": "x"}, 7)
    (first,) = env.reset()
    assert first == {"role": "user", "content": "You are in a room.\n"
                     "AVAILABLE ACTIONS: go to door 1,look,open door 1"}
    assert env.available_actions == tuple(ACTIONS) and "-generated/small_4" in env.task_type
    step = act(env, "Action: look\nThought: no.\nAction:\nsing a song")
    assert step.observation[0]["content"].startswith("Nothing happens.\nAVAILABLE ACTIONS: ")
    assert (step.reward, step.done, step.info) == (0, False, {"correct": 0, "valid": 0})
    step = act(env, "<think>Action: look</think>Thought:\nThe door.\n\nAction:\nopen door 1")
    assert (step.reward, step.done, step.observation) == (1, True, ())
    assert step.info == {"correct": 1, "valid": 0.5}
    assert step.notes == {"games": "generated: a room of jaxrl_moe's own, no game of ALFWorld's"}
    with pytest.raises(UserError, match="ended: open another"):
        act(env, "look")
    env.close()
    env.close()


def test_an_episode_is_reset_once_first_and_closed_for_good(task):
    env = task.open({"id": 0}, 0)
    with pytest.raises(UserError, match="not begun: reset it first"):
        act(env, "look")
    env.reset()
    with pytest.raises(UserError, match="begun already"):
        env.reset()
    env.close()
    with pytest.raises(UserError, match="ended"):
        act(env, "look")
    task.close()
    task.close()
    with pytest.raises(UserError, match="closed: make another"):
        task.open({"id": 0}, 0)


def test_commands_are_called_as_functions_where_the_task_says_so(tmp_path):
    task = AlfWorld(games="small", python=python_of(tmp_path), answers="functions")
    assert {tool["function"]["name"] for tool in task.tools({})} >= {"goto", "take", "put", "heat", "examine"}
    assert "calling a function" in task.instructions({})
    env = task.open({"id": 0}, 0)
    assert env.reset()[0]["role"] == "user"
    step = act(env, "", ToolCall("goto", '{"recep": "door 1"}'))
    assert step.observation[0]["role"] == "tool" and "go to door 1" in step.observation[0]["content"]
    step = act(env, "go to door 1")
    assert step.observation[0]["content"].startswith("0 functions were called, not one.")
    assert step.observation[0]["content"].endswith("AVAILABLE ACTIONS: go to door 1,look,open door 1")
    assert step.info["valid"] == 0.5
    assert act(env, "", ToolCall("open", '{"recep": "door 1"}')).done
    task.close()


@pytest.mark.parametrize("text", ["", "\x00\ud800\n", "dance " * 200_000, "Action:" * 100_000,
                                  "<think>Action: look"], ids=range(5))
def test_whatever_a_policy_writes_costs_a_turn_and_is_answered(task, text):
    env = task.open({"id": 0}, 0)
    env.reset()
    step = act(env, text)
    assert not step.done and step.reward == 0 and step.info["correct"] == 0
    assert 0 < len(step.observation[0]["content"]) < 2000


@pytest.mark.parametrize("row, problem", [
    ({}, "needs the number of an episode, from 0"), ({"id": -1}, "needs the number"), ({"id": "3"}, "number"),
    ({"item_id": "sciworld_3"}, "\"alfworld_N\" in `item_id`"),
    ({"id": 3, "item_id": "alfworld_4"}, "but has"),
    ({"id": 3, "games": "rooms"}, "the row is of the games 'rooms', and the task has 'small'")])
def test_a_row_that_names_no_game_of_the_task_is_refused(task, row, problem):
    with pytest.raises(UserError, match=f"(?i){problem}"):
        task.check_row(row, 0)
    with pytest.raises(UserError):
        task.open(row, 0)
    task.check_row({"item_id": "alfworld_12", "games": "small"}, 0)


@pytest.mark.parametrize("settings, problem", [
    ("max_turns=0", "at least 1"), ("workers=0", "at least 1"), ("seconds=0", "above 0"),
    ("games='large'", "must be of type"), ("answers='code'", "must be of type"),
    ("games='small', data='x'", "is a folder of games in files, and games = 'small' are in none")])
def test_bad_settings_are_refused_when_the_task_is_made(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        make_task(f"alfworld({settings})")


def test_what_is_missing_is_said_before_a_run_begins(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="/nowhere' is no program that can be run: .*run `make alfworld`"):
        AlfWorld(games="rooms", python=str(tmp_path / "nowhere")).ready()
    python = python_of(tmp_path)
    with pytest.raises(UserError, match="no list of games: put mappings_train.json and mappings_test.json"):
        AlfWorld(data=str(tmp_path), python=python).ready()
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    write_index(tmp_path, ["train/pick-A-None-B-generated/small_0"])
    task = AlfWorld(python=python)
    with pytest.raises(UserError, match=r"The first game, .*game.tw-pddl, does not exist: fetch"):
        task.ready()
    fine = AlfWorld(games="small", python=python)
    fine.ready()
    fine.close()
    dying = python_of(tmp_path, "echo No module named alfworld >&2; exit 1")
    broken = AlfWorld(games="small", python=dying)
    with pytest.raises(EnvError, match="ended in `begin` with exit code 1. It printed last: No module named "
                       "alfworld. If ALFWorld is not there, install it: make alfworld."):
        broken.ready()
    broken.close()


def test_games_in_files_are_numbered_as_agentgym_lists_them(tmp_path):
    lists = {"mappings_train.json": [("pick-A-None-B-1", "trial_1"), ("pick-A-None-B-2", "trial_2")],
             "mappings_test.json": [("look-A-None-B-3", "trial_3")]}
    for name, games in lists.items():
        entries = [{"item_id": 9, "task_type": kind, "task_id": trial} for kind, trial in games]
        (tmp_path / name).write_text(json.dumps(entries))
    task = AlfWorld(data=str(tmp_path), python=python_of(tmp_path))
    types = [task.open({"id": number}, 0).task_type for number in range(3)]
    assert types == ["pick-A-None-B-1/trial_1", "pick-A-None-B-2/trial_2", "look-A-None-B-3/trial_3"]
    folder = tmp_path / "json_2.1.1"
    assert task.open({"id": 1}, 0)._game == {"file": str(folder / "train" / types[1] / "game.tw-pddl")}
    assert task.open({"id": 2}, 0)._game == {"file": str(folder / "valid_train" / types[2] / "game.tw-pddl")}
    for use in (lambda row: task.open(row, 0), lambda row: task.check_row(row, 0)):
        use({"id": 2})
        with pytest.raises(UserError, match="There is no game 3: .* has 3, numbered from 0"):
            use({"id": 3})
    task.close()


def test_games_in_files_belong_to_the_split_of_the_folder_that_they_lie_in(tmp_path):
    folder = tmp_path / "valid_seen" / "test"  # where the data lie says nothing
    folder.mkdir(parents=True)
    write_index(folder, ["train/a/x", "test/b/x", "train/c/x", "valid_unseen/d/x"])
    task = AlfWorld(data=str(folder))
    assert sorted(row["id"] for row in episodes(task, 0, "train")) == [0, 2]
    assert sorted(row["id"] for row in episodes(task, 0, "test")) == [1, 3]


@pytest.mark.parametrize("entries, problem", [
    ({}, "is no list of games"), ([{"task_type": "a"}], "entry 0 has no task_id"), ([3], "entry 0")])
def test_a_list_of_games_that_is_none_is_refused(tmp_path, entries, problem):
    for name in ("mappings_train.json", "mappings_test.json"):
        (tmp_path / name).write_text(json.dumps(entries))
    with pytest.raises(UserError, match=problem):
        AlfWorld(data=str(tmp_path)).open({"id": 0}, 0)


def test_putting_down_is_understood_as_older_and_newer_games_spell_it():
    assert spelt("put mug 1 in/on desk 2", ["move mug 1 to desk 2"]) == "move mug 1 to desk 2"
    assert spelt("move mug 1 to desk 2", ["put mug 1 in/on desk 2"]) == "put mug 1 in/on desk 2"
    assert spelt("put mug 1 in/on desk 2", ["look"]) == "put mug 1 in/on desk 2"
    assert spelt("look", ["look"]) == "look"
