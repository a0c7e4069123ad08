"""Games of our own: rooms drawn at random with something to be done in them. None of them is one of
ALFWorld's; they are played by its rules."""
import dataclasses
import functools
import random
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

from jaxrl_moe.envs.text.alfworld.furniture import CAN_BE, HOLDS, LAMP, LAMP_STANDS, LYING, OPENABLE, ROOMS

Size = Literal["rooms", "small"]
# {what is to be done, as ALFRED calls it: (where something is done to the thing first, what it must be)}
TASKS: dict[str, tuple[str, str]] = {
    "pick_and_place_simple": ("", ""),
    "look_at_obj_in_light": ("", ""),
    "pick_clean_then_place_in_recep": ("SinkBasin", "cleanable"),
    "pick_heat_then_place_in_recep": ("Microwave", "heatable"),
    "pick_cool_then_place_in_recep": ("Fridge", "coolable"),
    "pick_two_obj_and_place": ("", "")}
LIGHT = "look_at_obj_in_light"
TWO = "pick_two_obj_and_place"
_LYING = (6, 14)        # things that lie about beside those that are looked for
_HELD_OUT_SHARE = 8     # one in so many games is held out
PHRASES = 2             # ways in which a goal is told


class Goal(NamedTuple):
    """What is to be done: a row of TASKS, with which kind of thing, and where it is to be put; of LIGHT, the
    lamp's kind."""
    task: str
    thing: str
    place: str


class Furniture(NamedTuple):
    """A piece of furniture; pieces of a kind are numbered from 1."""
    kind: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.kind.lower()} {self.number}"

    @property
    def is_openable(self) -> bool:
        return self.kind in OPENABLE


class Thing(NamedTuple):
    """Something that lies in or on a piece of furniture at first; things of a kind are numbered from 1."""
    kind: str
    number: int
    where: Furniture

    @property
    def name(self) -> str:
        return f"{self.kind.lower()} {self.number}"


@dataclasses.dataclass(frozen=True)
class RoomGame:
    """A room, and what is to be done there. Doors are shut at first, and the agent stands in the middle.

    Attributes:
      number: of the game among those of its size.
      phrase: which of the PHRASES tells the goal.
    """
    number: int
    size: Size
    room: str
    furniture: tuple[Furniture, ...]
    things: tuple[Thing, ...]
    goal: Goal
    phrase: int

    @property
    def label(self) -> str:
        """What ALFWorld calls the task type: goal and scene, which says that there is none of its own, and in
        place of the trial the game's number."""
        task, thing, place = self.goal
        return f"{task}-{thing}-None-{place}-generated/{self.size}_{self.number}"

    @property
    def layout(self) -> str:
        """The same for games that differ in nothing but their number and their sentence."""
        return repr((self.furniture, sorted(self.things), self.goal))

    @property
    def is_held_out(self) -> bool:
        """Whether it belongs to the test split: that follows from the layout, so no other game of it is in
        the other split."""
        return zlib.crc32(self.layout.encode()) % _HELD_OUT_SHARE == 0


@functools.lru_cache(4096)
def make_game(number: int, size: Size = "rooms") -> RoomGame:
    """The game of a number: the same in every process. The rows of TASKS take turns.

    Args:
      size: "rooms": rooms with many things; "small": some pieces of furniture and a few things.
    """
    draw = random.Random(f"alfworld {size} {number}")
    task = list(TASKS)[number % len(TASKS)]
    goals = goals_of(task)
    room = draw.choice(sorted(goals))
    goal = draw.choice(goals[room])
    furniture = _furnished(draw, room, goal, size)
    things = (*_wanted(draw, goal, furniture, size), *_lamps(draw, goal, furniture),
              *_others(draw, room, goal, furniture, size))
    return RoomGame(number, size, room, furniture, _numbered(draw, things), goal, draw.randrange(PHRASES))


@functools.cache
def goals_of(task: str) -> dict[str, tuple[Goal, ...]]:
    """{room: goals that can be reached there} of a row of TASKS."""
    goals = {room: tuple(_goals(task, room)) for room in ROOMS}
    return {room: each for room, each in goals.items() if each}


def _goals(task: str, room: str) -> Iterator[Goal]:
    station, needed = TASKS[task]
    pieces = ROOMS[room]
    if station and station not in pieces:
        return
    places = [LAMP] if task == LIGHT else [kind for kind in pieces if kind != station]
    if task == LIGHT and not set(LAMP_STANDS) & pieces.keys():
        return
    for thing in LYING[room]:
        for place in places:
            if (not needed or thing in CAN_BE[needed]) and (place == LAMP or thing in HOLDS[place]) and (
                    sources(room, thing, place)):
                yield Goal(task, thing, place)


def sources(room: str, thing: str, place: str) -> list[str]:
    """Kinds of furniture of a room in which a thing may lie at first that is to be brought to a place."""
    return [kind for kind in ROOMS[room] if kind != place and thing in HOLDS[kind]]


def _furnished(draw: random.Random, room: str, goal: Goal, size: Size) -> tuple[Furniture, ...]:
    """Furniture with all that the goal needs."""
    station, _ = TASKS[goal.task]
    source = draw.choice(sources(room, goal.thing, goal.place))
    stand = draw.choice([kind for kind in LAMP_STANDS if kind in ROOMS[room]] or [""])
    needed = {source, stand if goal.task == LIGHT else goal.place, *filter(None, [station])}
    if size == "small":
        others = [kind for kind in ROOMS[room] if kind not in needed]
        counts = dict.fromkeys([*sorted(needed), draw.choice(others)], 1)
    else:
        counts = {kind: max(draw.randint(*bounds), kind in needed) for kind, bounds in ROOMS[room].items()}
    return tuple(Furniture(kind, number) for kind in sorted(counts) for number in range(1, counts[kind] + 1))


def _wanted(draw: random.Random, goal: Goal, furniture: tuple[Furniture, ...], size: Size) -> list[Thing]:
    """Things of the goal's kind, none of them where it is to be brought."""
    least = 2 if goal.task == TWO else 1
    count = least if size == "small" else draw.randint(least, 3)
    fit = [each for each in furniture if goal.thing in HOLDS[each.kind] and each.kind != goal.place]
    return [Thing(goal.thing, 0, draw.choice(fit)) for _ in range(count)]


def _lamps(draw: random.Random, goal: Goal, furniture: tuple[Furniture, ...]) -> list[Thing]:
    stands = [each for each in furniture if each.kind in LAMP_STANDS]
    return [Thing(LAMP, 0, draw.choice(stands))] if goal.task == LIGHT else []


def _others(draw: random.Random, room: str, goal: Goal, furniture: tuple[Furniture, ...],
            size: Size) -> list[Thing]:
    """Things that are of no use."""
    count = draw.randint(*((1, 2) if size == "small" else _LYING))
    kinds = [kind for kind in LYING[room] if kind != goal.thing
             and any(kind in HOLDS[each.kind] for each in furniture)]
    drawn = [draw.choice(kinds) for _ in range(count)] if kinds else []
    return [Thing(kind, 0, draw.choice([each for each in furniture if kind in HOLDS[each.kind]]))
            for kind in drawn]


def _numbered(draw: random.Random, things: tuple[Thing, ...]) -> tuple[Thing, ...]:
    """The things in any order, numbered by kind."""
    mixed = list(things)
    draw.shuffle(mixed)
    seen: dict[str, int] = {}
    numbered = []
    for thing in mixed:
        seen[thing.kind] = seen.get(thing.kind, 0) + 1
        numbered.append(thing._replace(number=seen[thing.kind]))
    return tuple(numbered)
