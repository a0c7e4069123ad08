"""Rooms of our own, how they are won, and the data on them."""
import re
import zlib

import pytest

from jaxrl_moe.envs.text.alfworld.expert import Expert, asked
from jaxrl_moe.envs.text.alfworld.furniture import CAN_BE, HOLDS, LAMP, LAMP_STANDS, ROOMS
from jaxrl_moe.envs.text.alfworld.planner import plan
from jaxrl_moe.envs.text.alfworld.problem import problem
from jaxrl_moe.envs.text.alfworld.rooms import LIGHT, TASKS, TWO, goals_of, make_game
from jaxrl_moe.envs.text.alfworld.rows import prompts
from jaxrl_moe.types import UserError
from tests.helpers.house import House, shortest

SIZES = ("rooms", "small")


def test_the_game_of_a_number_is_always_the_same():
    layouts = "".join(make_game(number, size).layout for size in SIZES for number in range(60))
    assert zlib.crc32(layouts.encode()) == 2137079869
    make_game.cache_clear()
    assert make_game(7, "small") == make_game(7, "small") != make_game(7, "rooms")


@pytest.mark.parametrize("size", SIZES)
def test_a_game_can_be_won_and_is_not_won_at_first(size):
    for number in range(300):
        game = make_game(number, size)
        task, kind, place = game.goal
        assert task == list(TASKS)[number % 6]
        kinds = {piece.kind for piece in game.furniture}
        wanted = [thing for thing in game.things if thing.kind == kind]
        assert len(wanted) >= (2 if task == TWO else 1) and kinds <= ROOMS[game.room].keys()
        assert all(thing.where.kind != place for thing in wanted)
        for thing in game.things:
            where = thing.where.kind
            held = where in LAMP_STANDS if thing.kind == LAMP else thing.kind in HOLDS[where]
            assert held and thing.where in game.furniture
        station, needed = TASKS[task]
        assert not station or station in kinds and kind in CAN_BE[needed] and place != station
        assert place in ({thing.kind for thing in game.things} if task == LIGHT else kinds)
        house = House(game)
        assert not house.won()
        for command in plan(game):
            assert command in house.actions()
            house.do(command)
        assert house.won()


def test_no_way_to_win_is_shorter_than_the_plan():
    lengths = {number: len(plan(make_game(number, "small"))) for number in range(48)}
    tried = [number for number, length in lengths.items() if length <= 6]
    assert {number % 6 for number in tried} >= {0, 1, 2, 3, 4} and len(tried) > 20
    assert {number: shortest(make_game(number, "small")) for number in tried} == {
        number: lengths[number] for number in tried}


def test_every_type_of_task_has_goals_and_each_room_some():
    goals = {task: goals_of(task) for task in TASKS}
    assert all(goals.values()) and set().union(*goals.values()) == set(ROOMS)
    assert goals["pick_heat_then_place_in_recep"].keys() == {"kitchen"}
    assert sum(len(each) for rooms in goals.values() for each in rooms.values()) > 800


def test_no_layout_and_goal_is_in_both_splits_and_an_eighth_is_held_out():
    rows = {split: prompts(60, 3, split, True, games="small", turns=8) for split in ("train", "test")}
    layouts = {split: {make_game(row["id"], "small").layout for row in each} for split, each in rows.items()}
    assert len(layouts["train"]) == len(layouts["test"]) == 60 and not layouts["train"] & layouts["test"]
    types = [make_game(row["id"], "small").goal.task for row in rows["train"][:12]]
    assert types == list(TASKS) * 2
    assert all(len(plan(make_game(row["id"], "small"))) <= 8 for row in rows["test"])
    assert rows["train"][0]["games"] == "small" and rows["train"][0]["prompt"][0]["role"] == "system"
    assert rows["train"] == prompts(60, 3, "train", True, games="small", turns=8)
    assert rows["train"] != prompts(60, 4, "train", True, games="small", turns=8)
    share = sum(make_game(number).is_held_out for number in range(800)) / 800
    assert 0.09 < share < 0.16
    with pytest.raises(UserError, match="no more than 0 different games of 'small' for 'test'"):
        prompts(1, 0, "test", True, games="small", turns=2)


def play(game, most=60):
    """The expert's commands in our own house, and whether they win."""
    house = House(game)
    shown = house.opening()
    expert = Expert(shown)
    given = []
    while len(given) < most and not house.won():
        advice = expert.advice(f"{shown}\nAVAILABLE ACTIONS: x", house.actions())
        if advice is None:
            break
        assert advice.command in house.actions() and advice.thought
        given.append(advice.command)
        shown = house.do(advice.command)
    return given, house.won()


@pytest.mark.parametrize("size, most", [("small", 12), ("rooms", 30)])
def test_the_expert_wins_by_what_it_is_shown_alone(size, most):
    lengths = []
    for number in range(240):
        given, won = play(make_game(number, size))
        assert won, number
        assert len(given) >= len(plan(make_game(number, size)))
        lengths.append(len(given))
    assert sum(length <= most for length in lengths) > 0.8 * len(lengths)


def test_the_expert_goes_nowhere_twice_to_look_for_the_same():
    given, _ = play(make_game(0, "rooms"))
    visits = [command for command in given if command.startswith("go to")]
    assert len(visits) <= len(set(visits)) + 1


@pytest.mark.parametrize("sentence, goal", [
    ("put a mug in desk.", ("", 1, "mug", "desk")), ("put some mug on desk.", ("", 1, "mug", "desk")),
    ("put a clean mug in desk", ("clean", 1, "mug", "desk")), ("put two cd in safe.", ("", 2, "cd", "safe")),
    ("heat some egg and put it in fridge.", ("heat", 1, "egg", "fridge")),
    ("put a cool egg in microwave.", ("cool", 1, "egg", "microwave")),
    ("examine the pen with the desklamp.", ("use", 1, "pen", "desklamp"))])
def test_the_expert_reads_what_is_asked(sentence, goal):
    assert asked(f"You see a desk 1.\nYour task is to: {sentence}\nAVAILABLE ACTIONS: look") == goal


def test_the_expert_says_what_it_does_not_understand_and_ends_where_there_is_nothing():
    with pytest.raises(UserError, match="'fly to the moon'"):
        Expert("Your task is to: fly to the moon.")
    expert = Expert("You are in a room. You see a desk 1.\nYour task is to: put a pen in safe.")
    assert expert.advice("", ["go to desk 1"]).command == "go to desk 1"
    assert expert.advice("You arrive at desk 1. On the desk 1, you see nothing.", ["look"]) is None


def test_a_problem_says_all_of_a_game_once():
    game = make_game(3, "small")
    text = problem(game)
    assert text.count("(") == text.count(")")
    assert len(re.findall(r"\(inReceptacle \w+ \w+\)", text)) == len(game.things)
    assert "(openable microwave_bar_000)" in text and "(isHot ?o)" in text and "MicrowaveType - rtype" in text
    assert len(re.findall(r"- (?:receptacle|object)\n", text)) == len(game.furniture) + len(game.things)
