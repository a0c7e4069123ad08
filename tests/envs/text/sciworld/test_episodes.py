"""Episodes in real Java processes: scores, wrong focuses, what is no command; processes that are killed, that
stand still, that many threads share; and that nothing outlives us."""
import concurrent.futures
import os
import pathlib
import random
import signal
import subprocess
import sys

import pytest

from jaxrl_moe.envs.text.sciworld import game as games
from jaxrl_moe.envs.text.sciworld.gateway import JavaFailure
from jaxrl_moe.envs.text.sciworld.jvm import Jvm, JvmOptions
from jaxrl_moe.envs.text.sciworld.oracle import gold_actions
from jaxrl_moe.envs.text.sciworld.variations import TASKS, split_of
from jaxrl_moe.partials import runs
from jaxrl_moe.types import Action, EnvError, Status, ToolCall, UserError
from tests.helpers import sciworld
from tests.helpers.sciworld import PARROT, act, played
from tests.helpers.waiting import wait_until

ROOT = pathlib.Path(__file__).parents[4]
WALK = {"task": "lifespan-shortest-lived", "variation": 40}


@pytest.fixture
def task():
    return sciworld.shared_task()


def said(step):
    return step.observation[0]["content"]


@pytest.mark.parametrize("row", [WALK, {"task": "find-non-living-thing", "variation": 2}])
def test_the_game_s_own_path_ends_at_a_score_of_100_and_the_rewards_sum_to_it(task, row):
    env = task.open(row, 0)
    env.reset()
    steps = played(env, gold_actions(task, row))
    assert steps[-1].done and steps[-1].info == {"correct": 1, "score": 100, "valid": 1}
    assert sum(step.reward for step in steps) == pytest.approx(1) and steps[-1].observation == ()
    with pytest.raises(UserError, match="ended: open another"):
        act(env, "look around")


def test_a_wrong_focus_ends_an_episode_and_takes_what_was_gained(task):
    env = task.open(PARROT, 3)
    (first,) = env.reset()
    assert first["role"] == "user" and first["content"].startswith(env.task_description + "\n")
    assert env.task_description.startswith("Your task is to find the animal with the longest life span")
    look, no, dance, wrong = (act(env, text) for text in (
        "look  at\naxe", "x" * 1001, "dance", "focus on axe"))
    assert said(look) == "an axe" and look.reward == 0.5 and not look.done  # it began outside, at 50
    assert said(no) == "That is a command of 1001 characters: write one of at most 1000."
    assert said(dance) == "No known action matches that input."
    assert dance.info["valid"] == pytest.approx(1 / 3)
    assert (wrong.reward, wrong.done, wrong.observation) == (-0.5, True, ())
    assert wrong.info == {"correct": 0, "score": -100, "valid": 0.5}


@pytest.mark.parametrize("text", ["", "\x00\ud800", "Action:" * 3000, "help", "objects", "a\\b", "task",
                                  "move it to it to it", "9" * 900, "focus on"])
def test_whatever_a_policy_writes_costs_a_turn_and_is_answered(task, text):
    env = task.open(PARROT, 0)
    env.reset()
    step = env.step(Action(text, 5, False))
    assert not step.done and 0 < len(said(step)) < 2000 and step.info["score"] == 50
    env.close()


def test_commands_are_called_and_a_thing_of_two_is_chosen_by_its_number(task):
    calling = sciworld.task(answers="functions")
    calling._pool = task.pool
    env = calling.open({"task": "find-living-thing", "variation": 0}, 0)
    env.reset()
    asked = env.step(Action("", 5, False, (ToolCall("open", '{"object": "door"}'),)))
    assert asked.observation[0]["role"] == "tool" and said(asked).startswith("Ambiguous request")
    done = env.step(Action("", 5, False, (ToolCall("choose", '{"number": "0"}'),)))
    assert said(done) == "The door is now open."
    none = env.step(Action("open the door", 5, False))
    assert said(none).startswith("0 functions were called") and none.info["valid"] == pytest.approx(2 / 3)
    env.close()


def test_episodes_that_take_turns_in_few_processes_go_as_each_does_alone(task):
    rows = [PARROT, WALK, {"id": 0}]
    commands = ["open door", "0", "wait1", "go to kitchen", "look around"]

    def alone(row):
        env = task.open(row, 0)
        return [env.reset(), *played(env, commands)]

    expected = [alone(row) for row in rows]
    moves = task.pool.moves
    envs = [task.open(row, 0) for row in rows]
    seen = [[env.reset()] for env in envs]
    order = [number for number in range(len(rows)) for _ in commands]
    random.Random(0).shuffle(order)
    for number in order:
        seen[number].append(act(envs[number], commands[len(seen[number]) - 1]))
    assert seen == expected and task.pool.moves > moves + 5 and len(task.pool.pids) <= 2
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        assert list(threads.map(alone, rows)) == expected


def test_a_process_that_is_killed_is_replaced_and_its_episode_goes_on(task):
    env = task.open(WALK, 0)
    env.reset()
    act(env, "open door to outside")
    (seat,) = (seat for seat in task.pool._seats if seat.holder is env._game)
    os.kill(seat.jvm.pid, signal.SIGKILL)
    wait_until(lambda: not seat.jvm.lives)
    assert said(act(env, "go to outside")) == "You move to the outside."
    assert task.pool.lost == 1
    env.close()


@pytest.mark.slow
def test_a_process_that_stands_still_is_ended_and_its_episode_fails(task):
    env = task.open(WALK, 0)
    env.reset()
    (seat,) = (seat for seat in task.pool._seats if seat.holder is env._game)
    seat.jvm.gateway._socket.settimeout(0.3)
    os.kill(seat.jvm.pid, signal.SIGSTOP)
    with pytest.raises(EnvError, match="did not answer within") as caught:
        act(env, "look around")
    assert caught.value.status == Status.TIMED_OUT and not seat.jvm.lives
    assert seat not in task.pool._seats
    assert said(act(env, "inventory")).startswith("In your inventory")
    env.close()


def test_a_command_at_which_the_game_fails_changes_nothing(task, monkeypatch):
    env = task.open(WALK, 0)
    env.reset()
    act(env, "open door to outside")
    real = games._text

    def failing(gateway, game, method, *arguments):
        if arguments == ("go to outside",):
            real(gateway, game, method, "close door to outside")  # what it had done by then
            raise JavaFailure("java.lang.NullPointerException")
        return real(gateway, game, method, *arguments)

    monkeypatch.setattr(games, "_text", failing)
    failed = act(env, "go to outside")
    assert said(failed) == games.FAILED and failed.info["valid"] == 0.5 and not failed.done
    monkeypatch.undo()
    assert said(act(env, "go to outside")) == "You move to the outside."


def test_a_game_that_does_not_come_to_the_same_again_fails(task):
    env = task.open(WALK, 0)
    env.reset()
    act(env, "inventory")
    command, told = env._game._done[-1]
    env._game._done[-1] = command, told._replace(observation="something else")
    task.pool.leave(env._game)
    with pytest.raises(EnvError, match="did not come to the same state again"):
        act(env, "look around")
    env.close()


def test_the_process_itself_has_the_variations_and_splits_that_are_written_down(task):
    with task.pool.seat(None) as seat:
        assert pathlib.Path(f"/proc/{seat.jvm.pid}/cwd/object_type_ids.tsv").exists()  # else it writes one
        gateway = seat.jvm.gateway
        game = seat.jvm.game
        assert {name: gateway.call(game, "getTaskMaxVariations", name) for name in TASKS} == TASKS
        assert set(gateway.texts(game, "getTaskNames")) == set(TASKS)
        for name in ("boil", "identify-life-stages-2", "mendelian-genetics-unknown-plant"):
            gateway.call(game, "load", name, 0, "", False)
            for split in ("train", "test"):
                numbers = gateway.call(game, f"getVariations{split.title()}")
                assert gateway.call(numbers, "toString") == str([*split_of(name, split)])


def test_a_process_ends_with_the_one_that_started_it_however_that_ends(task):
    program = ("from jaxrl_moe.envs.text.sciworld.jvm import Jvm, JvmOptions\n"
               "Jvm._begun = lambda self: None  # as far as it counts\n"
               "jvm = Jvm(JvmOptions(128, 120.0))\nprint(jvm.pid, flush=True)\ninput()\n")
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert runs(pid)
    parent.kill()
    parent.communicate()
    wait_until(lambda: not runs(pid))


def test_a_heap_that_java_cannot_have_is_told_with_what_java_says():
    with pytest.raises(UserError, match="did not begin: .*heap.* Look at the setting jvm_mb"):
        sciworld.task(jvms=1)
        Jvm(JvmOptions(10**9, 120.0))


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_every_task_s_own_path_ends_at_100_and_goes_alike_in_another_process(name):
    task = sciworld.shared_task()
    row = {"task": name, "variation": TASKS[name] // 2}
    commands = gold_actions(task, row)

    def steps():
        env = task.open(row, 0)
        return [env.reset(), *played(env, commands)]

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: steps(), range(2))
    assert first == second and first[-1].info["score"] == 100
