"""ALFWorld's games as the package itself plays them, in the environment that `make alfworld` makes."""
import json
import os
import pathlib
import re
import signal
import subprocess

import pytest

from jaxrl_moe.envs.text.alfworld import AlfWorld
from jaxrl_moe.envs.text.alfworld.export import write_games
from jaxrl_moe.envs.text.alfworld.furniture import CAN_BE, HOLDS, OPENABLE
from jaxrl_moe.envs.text.alfworld.oracle import commands
from jaxrl_moe.envs.text.alfworld.planner import plan
from jaxrl_moe.envs.text.alfworld.play import game_workers
from jaxrl_moe.envs.text.alfworld.problem import described
from jaxrl_moe.envs.text.alfworld.rooms import TASKS, make_game
from jaxrl_moe.envs.text.alfworld.rows import conversations
from jaxrl_moe.envs.text.alfworld.task import ENVIRONMENT
from jaxrl_moe.types import Action, EnvError, UserError
from tests.helpers.house import House
from tests.helpers.waiting import wait_until

ROOT = pathlib.Path(__file__).parents[4]
PAGE = ROOT / "docs" / "agents" / "alfworld.md"
PYTHON = ROOT / ENVIRONMENT / "bin" / "python"
pytestmark = [pytest.mark.slow,  # under load a process of the package takes half a minute to begin
              pytest.mark.skipif(not PYTHON.exists(), reason=f"needs {ENVIRONMENT}: make alfworld")]
SECONDS = 240


@pytest.fixture(scope="module")
def task():
    made = AlfWorld(games="small", seconds=SECONDS)
    made.ready()
    yield made
    made.close()


def act(env, command):
    return env.step(Action(f"Thought:\nx\n\nAction:\n{command}", 5, False))


@pytest.mark.parametrize("number", range(6), ids=list(TASKS))
def test_a_game_of_each_type_is_won_by_its_plan_and_by_the_last_command_alone(task, number):
    game = make_game(number, "small")
    env = task.open({"id": number}, 0)
    (first,) = env.reset()
    assert f"\n{House(game).sentence()}\nAVAILABLE ACTIONS: go to " in first["content"]
    assert first["content"].startswith("You are in the middle of a room.")
    steps = [act(env, command) for command in plan(game)]
    assert [step.reward for step in steps] == [0.0] * (len(steps) - 1) + [1.0]
    assert [step.done for step in steps] == [False] * (len(steps) - 1) + [True]
    assert steps[-1].info == {"correct": 1, "valid": 1}
    assert env.task_type == f"{game.label}" and game.goal.task in env.task_type
    env.close()


def words(text):
    return set(text.replace(",", "").replace(".", "").split()) - {"and"}


def walked(play, game):
    """Where the package and our own rules differ, over the plan and what is beside it."""
    house = House(game)
    told = play.begin(described(game))
    differences = [] if list(told.actions) == house.actions() else [(told.actions, house.actions())]
    for command in plan(game):
        aside = next(each for each in house.actions() if each.startswith(("examine", "look")))
        assert play.step(aside).actions == tuple(house.actions())
        told = play.step(command)
        shown = house.do(command)
        if list(told.actions) != house.actions() or told.won != house.won():
            differences.append((command, told, house.actions()))
        if "you see" in shown:  # the package lists in an order of its own
            assert words(shown) == words(told.observation)
    return differences


def test_the_package_lists_the_same_commands_as_rules_written_down_twice(task):
    for size in ("rooms", "small"):
        for number in range(6):
            play = task.play()
            assert not walked(play, make_game(number, size))
            play.end()


def test_what_does_nothing_says_so_and_what_is_wrong_loses_nothing(task):
    env = task.open({"id": 0}, 0)
    opening = env.reset()[0]["content"]
    for command in ("go to moon 1", "take cd 1 from shelf 1", "", "GO TO SHELF 1", "open safe 1"):
        step = act(env, command)
        assert step.observation[0]["content"].startswith("Nothing happens.\nAVAILABLE ACTIONS: ")
        assert not step.done and step.reward == 0 and step.info["valid"] == 0
    step = act(env, "look")
    assert step.info["valid"] == pytest.approx(1 / 6)
    assert step.observation[0]["content"].split("AVAILABLE")[1] == opening.split("AVAILABLE")[1]
    for command in plan(make_game(0, "small")):
        spelling = command.replace("move", "put").replace(" to ", " in/on ") if "move" in command else command
        step = act(env, spelling)
    assert step.done and step.reward == 1
    env.close()


def transcript(task, number):
    env = task.open({"id": number}, 0)
    told = [env.reset()]
    for turn in range(12):
        actions = env.available_actions
        step = act(env, actions[(7 * turn + 3) % len(actions)])
        told.append((step.observation, step.reward, step.info))
        if step.done:
            break
    env.close()
    return told


def test_a_game_goes_the_same_way_in_every_process_and_beside_other_games(task):
    beside = task.open({"id": 4}, 0)
    beside.reset()
    for number in (1, 5):
        first = transcript(task, number)
        other = AlfWorld(games="small", seconds=SECONDS)
        assert first == transcript(task, number) == transcript(other, number)
        other.close()
    assert act(beside, "look").info["valid"] == 1
    beside.close()


def test_a_killed_process_costs_its_games_and_is_replaced():
    task = AlfWorld(games="small", seconds=SECONDS)
    env = task.open({"id": 0}, 0)
    env.reset()
    guard = task._pool._slots[0].worker._process.pid
    (worker,) = pathlib.Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    with pytest.raises(EnvError, match="with exit code 137"):
        act(env, "look")
    env.close()
    again = task.open({"id": 0}, 0)
    again.reset()
    assert act(again, "look").info["valid"] == 1
    task.close()


def test_the_worker_ends_when_nobody_can_ask_it_any_more():
    pool = game_workers("", 1, SECONDS)
    assert pool.facts().values == {"alfworld": "0.4.2", "textworld": "1.7.0"}
    worker = pool._slots[0].worker
    assert worker.runs
    worker._process.stdin.close()
    wait_until(lambda: not worker.runs, 30)
    assert worker._process.returncode == 0
    pool.close()


def test_games_in_files_say_that_they_are_generated_and_are_played_by_number(task, tmp_path):
    told = []
    write_games(task, tmp_path, 6, 1, lambda done, name: told.append((done, name)))
    names = json.loads((tmp_path / "games.json").read_text())
    assert names["generated"] is True and [name for _, name in told] == names["games"] and len(told) == 6
    for name in names["games"]:
        game = json.loads((tmp_path / "json_2.1.1" / name / "game.tw-pddl").read_text())
        assert "no game of ALFWorld's" in game["generated"]["what"] and "-generated/" in name
        held_out = make_game(game["generated"]["number"], "small").is_held_out
        assert name.startswith("test/" if held_out else "train/")
        assert "Your task is to: UNKNOWN" not in game["grammar"] and game["solvable"] is True
    files = AlfWorld(data=str(tmp_path), seconds=SECONDS)
    files.ready()
    env = files.open({"item_id": "alfworld_4"}, 0)
    assert env.reset() and env.task_type == "/".join(names["games"][4].split("/")[1:])
    for command in game_of(tmp_path, names["games"][4])["walkthrough"]:
        step = act(env, command)
    assert step.done and step.notes["games"].startswith("generated")
    files.close()
    with pytest.raises(UserError, match="has games already"):
        write_games(task, tmp_path, 6, 1)


def game_of(folder, name):
    return json.loads((folder / "json_2.1.1" / name / "game.tw-pddl").read_text())


def test_a_file_that_is_no_game_fails_the_episode_alone(task, tmp_path):
    (tmp_path / "games.json").write_text('{"games": ["train/a/b", "train/a/c"]}')
    folder = tmp_path / "json_2.1.1" / "train" / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "game.tw-pddl").write_text('{"pddl_domain": "(define"}')
    files = AlfWorld(data=str(tmp_path), seconds=SECONDS)
    for number, problem in ((0, "KeyError"), (1, "FileNotFoundError")):
        env = files.open({"id": number}, 0)
        with pytest.raises(EnvError, match=f"failed in `reset`: {problem}"):
            env.reset()
        env.close()
    files.close()


def test_rows_for_fine_tuning_are_games_that_the_expert_wins():
    rows = conversations(6, 0, "train", True, games="small", turns=8)
    assert len(rows) == 6 and len({row["id"] for row in rows}) == 6
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["system", *["user", "assistant"] * ((len(roles) - 1) // 2)] and 3 <= len(roles) <= 17
        assert all(message["content"].startswith("Action: ") for message in row["messages"][2::2])
        assert not make_game(row["id"], "small").is_held_out
    answer = conversations(1, 0, "train", False, games="small")[0]["messages"][2]["content"]
    assert answer.startswith("Thought:\n") and "\n\nAction:\ngo to " in answer


def test_what_our_rooms_let_lie_where_is_a_part_of_what_the_package_lets():
    script = ("import json\nfrom alfworld.gen import constants as c\nprint(json.dumps(["
              "*({k: sorted(v) for k, v in table.items()} for table in (c.VAL_RECEPTACLE_OBJECTS, "
              "c.VAL_ACTION_OBJECTS)), c.OPENABLE_CLASS_LIST]))")
    said = subprocess.run([str(PYTHON), "-c", script], check=True, capture_output=True, text=True).stdout
    holds, actions, openable = json.loads(said.splitlines()[-1])
    assert set(openable) >= OPENABLE
    for kind, things in HOLDS.items():
        assert set(things) <= set(holds[kind]) and len(things) == len(set(things)), kind
    for what, things in CAN_BE.items():
        assert things <= set(actions[what.capitalize()])


def test_an_episode_goes_as_its_page_shows_it(task):
    page = PAGE.read_text()
    env = task.open({"id": 0}, 0)
    assert f"```text\n{env.reset()[0]['content']}\n```" in page
    answers = re.findall(r"^\| `([^`]*)` \| `([^`]*)` \|$", page, re.M)
    assert len(answers) == 5
    for answer, reply in answers:
        shown = env.step(Action(answer, 5, False)).observation[0]["content"]
        assert shown.partition("\nAVAILABLE ACTIONS")[0] == reply
    env.close()


@pytest.mark.parametrize("start", range(0, 72, 12))
def test_72_games_are_won_by_their_plans_and_by_the_expert(start):
    task = AlfWorld(games="rooms", max_turns=80, seconds=SECONDS)
    for number in range(start, start + 12):
        env = task.open({"id": number}, 0)
        env.reset()
        steps = [act(env, command) for command in plan(make_game(number))]
        assert steps[-1].reward == 1 and steps[-1].info["valid"] == 1, number
        env.close()
        assert commands(task, {"id": number}) is not None, number
    task.close()
