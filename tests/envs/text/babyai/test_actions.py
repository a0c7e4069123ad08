"""Actions: their ways are the shortest over what is in sight, they do what they say, and what cannot be done
is refused with the reason."""
import copy
import itertools

import pytest
from minigrid.core.world_object import Ball, Box, Door, Key, Wall

from jaxrl_moe.envs.text.answers import BadAction
from jaxrl_moe.envs.text.babyai.actions import LOOK, Scene, moves_of
from jaxrl_moe.envs.text.babyai.paths import Move
from jaxrl_moe.envs.text.babyai.view import Names, View
from tests.helpers.babyai import HEADINGS, absolute, seen_cells, walk

SAMPLE = range(3, 120, 9)


def fewest_moves(world):
    """{(x, y, heading): fewest low-level moves} over free cells in sight, by relaxing all until nothing
    changes."""
    cells = {absolute(world, place): thing for place, thing in seen_cells(world).items()}
    free = {place for place, thing in cells.items()
            if thing is None or (thing.type == "door" and thing.is_open)}
    free.add(tuple(map(int, world.agent_pos)))
    states = list(itertools.product(sorted(free), range(4)))
    moves = dict.fromkeys(states, 1000)
    moves[tuple(map(int, world.agent_pos)), world.agent_dir] = 0
    changed = True
    while changed:
        changed = False
        for (x, y), heading in states:
            ahead = (x + HEADINGS[heading][0], y + HEADINGS[heading][1])
            for state in ((ahead, heading), ((x, y), (heading + 1) % 4), ((x, y), (heading - 1) % 4)):
                if state in moves and moves[state] > moves[(x, y), heading] + 1:
                    moves[state] = moves[(x, y), heading] + 1
                    changed = True
    return {state: count for state, count in moves.items() if count < 1000}


def to_face(moves, place):
    """The fewest moves to where a cell is ahead; None where there is no way."""
    return min((count for ((x, y), heading), count in moves.items()
                if (x + HEADINGS[heading][0], y + HEADINGS[heading][1]) == place), default=None)


@pytest.mark.parametrize("index", SAMPLE)
def test_ways_are_the_shortest_and_there_is_an_action_wherever_there_is_a_way(index):
    for episode, _ in walk(index):
        moves = fewest_moves(episode.world)
        actions = episode.scene.actions
        for place, thing in episode.scene.view.things():
            name = episode.scene.names.name(thing)
            target = absolute(episode.world, place)
            fewest = to_face(moves, target)
            expected = {"go to": None if fewest is None else max(fewest, 1)}
            if thing.type == "door":
                expected["go through"] = min(
                    (count for (where, _), count in moves.items() if where == target), default=None)
            elif episode.world.carrying is None:
                expected["pickup"] = None if fewest is None else fewest + 1
            for verb, count in expected.items():
                way = actions.get(f"{verb} {name}")
                assert (None if way is None else len(way)) == count, (name, verb)


@pytest.mark.parametrize("index", SAMPLE)
def test_actions_do_what_they_say(index):
    for episode, _ in walk(index, 6):
        for action, moves in episode.scene.actions.items():
            world = copy.deepcopy(episode.world)
            before = {place: copy.deepcopy(thing) for place, thing in seen_cells(world).items()}
            thing = next((place for place, thing in episode.scene.view.things()
                          if action.endswith(episode.scene.names.name(thing))), None)
            target = absolute(world, thing) if thing else None
            start = (tuple(map(int, world.agent_pos)), world.agent_dir)
            for move in moves:
                world.step(move)
            where = tuple(map(int, world.agent_pos))
            ahead = tuple(map(int, world.front_pos))
            if action.startswith("go to"):
                assert ahead == target
            elif action.startswith("pickup"):
                assert ahead == target and world.grid.get(*target) is None
                assert world.carrying.color == before[thing].color
            elif "through" in action:
                assert where == target and world.grid.get(*target).is_open
            elif action == "move forward":
                assert where != start[0] and world.agent_dir == start[1]
            elif action == "drop":
                assert world.carrying is None and world.grid.get(*ahead) is not None
            elif action == "toggle":
                front = world.grid.get(*ahead)
                assert before[1, 0].type == "box" or front.is_open != before[1, 0].is_open
            else:
                assert action in ("turn left", "turn right") and (where, world.agent_dir) != start


def scene(carried=None, **things):
    """A room of 3 x 3 cells before the agent, with things by place: a1 is ahead, l and r are beside a."""
    cells = {(forward, right): None for forward in range(4) for right in (-1, 0, 1)}
    cells |= {(forward, side): Wall() for forward in range(4) for side in (-2, 2)}
    cells |= {(4, right): Wall() for right in (-1, 0, 1)}
    del cells[0, 0]
    columns = {"l": -1, "a": 0, "r": 1}
    cells |= {(int(place[1]), columns[place[0]]): thing for place, thing in things.items()}
    view = View(cells, carried)
    names = Names()
    names.learn(view)
    return Scene(view, names)


def door(color, state):
    return Door(color, is_open=state == "open", is_locked=state == "locked")


F, L, R, P, T = Move.FORWARD, Move.LEFT, Move.RIGHT, Move.PICKUP, Move.TOGGLE


@pytest.mark.parametrize("command, place, moves", [
    ("go to red ball 1", scene(a3=Ball("red")), (F, F)),
    ("Pick up red ball 1", scene(r1=Ball("red")), (F, R, P)),
    ("pickup red ball 2", scene(a1=Ball("red"), a3=Ball("red")), (L, F, R, F, F, F, R, P)),
    ("go to blue door 1", scene(a4=door("blue", "closed")), (F, F, F)),
    ("go to blue closed door 1", scene(a4=door("blue", "closed")), (F, F, F)),
    ("toggle and go through blue closed door 1", scene(a4=door("blue", "closed")), (F, F, F, T, F)),
    ("go through blue open door 1", scene(a2=door("blue", "open")), (F, F)),
    ("toggle and go through grey locked door 1", scene(Key("grey"), a1=door("grey", "locked")), (T, F)),
    ("go to red box 1", scene(a1=Box("red")), (Move.WAIT,)),
    ("toggle", scene(a1=Box("red")), (T,)), ("toggle", scene(a1=door("red", "open")), (T,)),
    ("drop", scene(Ball("red")), (Move.DROP,)), (LOOK, scene(), ())])
def test_actions_become_moves(command, place, moves):
    assert moves_of(command, place) == moves


@pytest.mark.parametrize("command, place, reason", [
    ("", scene(), "no action"),
    ("dance", scene(), "There is no action 'dance'"),
    ("go to red ball", scene(a2=Ball("red")), "There is no action 'go to red ball'"),
    ("go to red ball 01", scene(a2=Ball("red")), "There is no action"),
    ("go to red ball 2", scene(a2=Ball("red")), "You see no red ball 2"),
    ("go to pink ball 1", scene(), "There is no action"),
    ("x" * 10**6, scene(), r"There is no action 'x+\.\.\.x+'\.$"),
    ("move forward", scene(a1=Key("red")), "red key 1 is in front of you"),
    ("move forward", scene(a1=Wall()), "a wall is in front of you"),
    ("toggle", scene(), "nothing to toggle: nothing is in front"),
    ("toggle", scene(a1=Wall()), "a wall is in front of you"),
    ("toggle", scene(a1=door("red", "locked")), "cannot open red locked door 1: you need to carry a red key"),
    ("drop", scene(), "carry nothing"),
    ("drop", scene(Ball("red"), a1=Ball("blue")), "blue ball 1 is in front of you"),
    ("drop", scene(Ball("red"), a1=door("red", "open")), "red open door 1 is in front of you"),
    ("pickup red ball 1", scene(Key("red"), a2=Ball("red")), "You carry red key 1: drop it before"),
    ("pickup red open door 1", scene(a2=door("red", "open")), "door cannot be picked up"),
    ("go through red ball 1", scene(a2=Ball("red")), "through doors alone"),
    ("go through red closed door 1", scene(a2=door("red", "closed")), "toggle and go through it"),
    ("go through red open door 1", scene(a2=door("red", "closed")), "red closed door 1 .* not open"),
    ("toggle and go through red door 1", scene(a2=door("red", "open")), "need not toggle red open door 1"),
    ("toggle and go through red door 1", scene(Key("blue"), a2=door("red", "locked")), "carry a red key"),
    ("go to open ball 1", scene(), "There is no action"),
    ("go to red open ball 1", scene(a2=Ball("red")), "red ball 1 .* not open"),
    ("go to red ball 1", scene(a1=Wall(), l0=Wall(), r0=Wall(), a2=Ball("red")), "no free way to red ball")])
def test_what_cannot_be_done_is_refused_with_the_reason(command, place, reason):
    with pytest.raises(BadAction, match=reason) as refusal:
        moves_of(command, place)
    assert len(str(refusal.value)) < 200
