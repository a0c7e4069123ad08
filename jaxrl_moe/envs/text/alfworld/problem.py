"""A game of our own as a problem in PDDL, for the domain that the package alfworld carries."""
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from jaxrl_moe.envs.text.alfworld.furniture import CAN_BE, HOLDS, LAMP
from jaxrl_moe.envs.text.alfworld.rooms import LIGHT, TASKS, TWO, Furniture, Goal, RoomGame, Thing

# Types that the domain's actions name, whether or not a room has such.
_NAMED = {"rtype": ("SinkBasin", "Microwave", "Fridge"), "otype": ("Knife", "ButterKnife")}
_BECOMES = {"cleanable": "isClean", "heatable": "isHot", "coolable": "isCool"}
_ALONE = """
  (exists (?o - object ?r - receptacle)
    (and (inReceptacle ?o ?r) (objectType ?o {thing}Type) (receptacleType ?r {place}Type){more}))"""
_PAIR = """
  (exists (?o - object ?p - object ?r - receptacle)
    (and (not (= ?o ?p)) (objectType ?o {thing}Type) (objectType ?p {thing}Type)
      (receptacleType ?r {place}Type) (inReceptacle ?o ?r) (inReceptacle ?p ?r)))"""
_LIT = """
  (exists (?t - object ?o - object ?r - receptacle ?a - agent ?l - location)
    (and (objectType ?t {place}Type) (toggleable ?t) (isToggled ?t) (inReceptacle ?t ?r)
      (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (objectType ?o {thing}Type) (holds ?a ?o)))"""


def problem(game: RoomGame) -> str:
    """The text of the problem."""
    objects = "".join(f"  {each}\n" for each in _objects(game))
    facts = "".join(f"  {each}\n" for each in _facts(game))
    return (f"(define (problem {game.size}_{game.number})\n (:domain alfred)\n (:objects\n{objects} )\n"
            f" (:init\n{facts} )\n (:goal{_goal(game.goal)})\n (:metric minimize (total-cost)))\n")


def described(game: RoomGame) -> dict[str, Any]:
    """What a worker that plays it is told of a game."""
    return {"problem": problem(game), "phrase": game.phrase, **game.goal._asdict()}


def _objects(game: RoomGame) -> Iterator[str]:
    yield "agent1 - agent"
    yield "loc_middle - location"
    for index, _ in enumerate(game.furniture):
        yield f"loc_{index} - location"
    ids = identifiers(game.furniture)
    things = identifiers(game.things)
    yield from (f"{name} - receptacle" for name in ids.values())
    yield from (f"{name} - object" for name in things.values())
    kinds = {"rtype": [each.kind for each in game.furniture], "otype": [each.kind for each in game.things]}
    for sort, present in kinds.items():
        yield from (f"{kind}Type - {sort}" for kind in sorted({*present, *_NAMED[sort]}))


def identifiers(pieces: Sequence[Furniture] | Sequence[Thing]) -> dict[Furniture | Thing, str]:
    """{piece: its identifier}, by which ALFWorld gives it our name: it sorts the identifiers of a kind, and
    numbers them from the last."""
    counts = Counter(each.kind for each in pieces)
    return {each: _identifier(each.kind.lower(), counts[each.kind] - each.number) for each in pieces}


def _identifier(kind: str, rank: int) -> str:
    """A basin is a part of something of its name, as ALFWorld has them."""
    whole = kind.removesuffix("basin")
    return f"{whole}_bar_{rank:03d}" + f"_bar_{kind}" * (whole != kind)


def _facts(game: RoomGame) -> Iterator[str]:
    yield "(= (total-cost) 0)"
    yield "(atLocation agent1 loc_middle)"
    ids = identifiers(game.furniture)
    for index, piece in enumerate(game.furniture):
        yield f"(receptacleType {ids[piece]} {piece.kind}Type)"
        yield f"(receptacleAtLocation {ids[piece]} loc_{index})"
        yield from [f"(openable {ids[piece]})"] * piece.is_openable
    for thing, name in identifiers(game.things).items():
        yield f"(objectType {name} {thing.kind}Type)"
        yield f"(inReceptacle {name} {ids[thing.where]})"
        yield f"(objectAtLocation {name} loc_{game.furniture.index(thing.where)})"
        yield f"({'toggleable' if thing.kind == LAMP else 'pickupable'} {name})"
        yield from (f"({what} {name})" for what, kinds in CAN_BE.items() if thing.kind in kinds)
    things = {each.kind for each in game.things}
    for place in sorted({each.kind for each in game.furniture}):
        yield from (f"(canContain {place}Type {kind}Type)" for kind in sorted(things & set(HOLDS[place])))


def _goal(goal: Goal) -> str:
    form = {LIGHT: _LIT, TWO: _PAIR}.get(goal.task, _ALONE)
    _, needed = TASKS[goal.task]
    more = f" ({_BECOMES[needed]} ?o)" if needed else ""
    return form.format(thing=goal.thing, place=goal.place, more=more)
