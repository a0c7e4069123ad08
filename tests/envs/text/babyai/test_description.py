"""What the descriptions say, against one that is worked out from the whole grid."""
import re

import pytest
from minigrid.core.world_object import Ball, Box, Door, Key

from jaxrl_moe.envs.text.babyai.episode import BabyAIEpisode
from jaxrl_moe.envs.text.babyai.levels import data_index
from jaxrl_moe.envs.text.babyai.view import Names, View, look
from tests.helpers.babyai import seen_cells, walk

SAMPLE = range(0, 120, 11)


def place_of(text):
    """(forward, right) of "2 steps forward and 1 step left"."""
    numbers = {word: int(count) for count, word in re.findall(r"(\d+) steps? (forward|left|right)", text)}
    assert numbers and "0 step" not in text and "1 steps" not in text
    return numbers.get("forward", 0), numbers.get("right", 0) - numbers.get("left", 0)


def lines_of(text):
    return dict(line.split(": ", 1) for line in text.split("\n"))


def things_of(text):
    """{place: name} of the line of what is seen."""
    listed = lines_of(text)["You see"]
    pairs = [] if listed == "nothing" else [item.split(": ") for item in listed.split("; ")]
    things = {place_of(where): name for name, where in pairs}
    assert len(things) == len(pairs)
    return things


def expected_name(thing):
    """Name without the number."""
    if thing.type == "door":
        state = "open" if thing.is_open else "locked" if thing.is_locked else "closed"
        return f"{thing.color} {state} door"
    return f"{thing.color} {thing.type}"


@pytest.mark.parametrize("index", SAMPLE)
def test_everything_in_sight_is_described_where_it_is_and_nothing_else(index):
    for episode, text in walk(index):
        cells = seen_cells(episode.world)
        things = {place: thing for place, thing in cells.items() if thing and thing.type != "wall"}
        said = things_of(text)
        assert said.keys() == things.keys()
        for place, thing in things.items():
            assert re.fullmatch(expected_name(thing) + r" \d+", said[place])
        lines = lines_of(text)
        ahead = cells[1, 0]
        assert lines["Ahead"] == ("nothing" if ahead is None else "a wall" if ahead.type == "wall" else
                                  said[1, 0])
        carried = episode.world.carrying
        assert re.fullmatch(r"nothing" if carried is None else expected_name(carried) + r" \d+",
                            lines["Carrying"])
        assert lines["Available actions"].split(", ") == list(episode.scene.actions)


@pytest.mark.parametrize("index", SAMPLE)
def test_the_nearest_walls_ahead_and_at_both_sides_are_described(index):
    for episode, text in walk(index):
        walls = [place for place, thing in seen_cells(episode.world).items()
                 if thing and thing.type == "wall"]
        lines = {"ahead": [place for place in walls if place[1] == 0],
                 "left": [place for place in walls if place[0] == 0 and place[1] < 0],
                 "right": [place for place in walls if place[0] == 0 and place[1] > 0]}
        nearest = [min(line, key=lambda place: sum(map(abs, place))) for line in lines.values() if line]
        said = lines_of(text)["Walls"]
        assert ([] if said == "none in sight" else list(map(place_of, said.split("; ")))) == nearest


@pytest.mark.parametrize("index", [data_index(33, 0), data_index(5, 1), data_index(17, 0), data_index(22, 0)])
def test_a_thing_keeps_its_number_wherever_it_is_brought_and_like_things_have_different_ones(index):
    numbers = {}
    for episode, text in walk(index, 40):
        things = {seen_cells(episode.world)[place]: name for place, name in things_of(text).items()}
        if episode.world.carrying:
            things[episode.world.carrying] = lines_of(text)["Carrying"]
        for thing, name in things.items():
            number = re.search(r"\d+$", name)[0]
            assert numbers.setdefault(thing, number) == number
    marks = [(thing.color, thing.type, number) for thing, number in numbers.items()]
    assert len(set(marks)) == len(marks) > 0


def test_numbers_go_from_near_to_far_and_from_left_to_right():
    near = Ball("red")
    left = Ball("red")
    right = Ball("red")
    door = Door("red", is_locked=True)
    view = View({(1, 0): None, (3, 0): door, (1, 1): right, (1, -1): left, (0, 1): near, (2, 2): Key("red")},
                Box("red"))
    names = Names()
    names.learn(view)
    assert [names.name(thing) for thing in (near, left, right)] == ["red ball 1", "red ball 2", "red ball 3"]
    assert names.name(view.carried) == "red box 1" and names.name(door) == "red locked door 1"
    door.is_locked = False
    door.is_open = True
    assert names.name(door) == "red open door 1"
    assert names.find("red", "ball", 2, view) is left and names.find("red", "ball", 4, view) is None


def test_what_stands_behind_a_wall_is_not_in_sight():
    hidden = 0
    for index in range(0, 80, 3):
        episode = BabyAIEpisode(index)
        episode.reset()
        things = [cell for cell in episode.world.grid.grid if cell and cell.type != "wall"]
        seen = {id(thing) for _, thing in look(episode.world).things()}
        hidden += len(things) - len(seen)
        assert seen <= set(map(id, things))
    assert hidden > 100
