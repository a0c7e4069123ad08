"""What the policy can say: actions in words, each a row of low-level moves, and why one cannot be taken."""
import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaxrl_moe.envs.text.answers import BadAction
from jaxrl_moe.envs.text.babyai.paths import Move, Moves, Paths
from jaxrl_moe.envs.text.babyai.view import AHEAD, KINDS, Names, Place, View, state_of
from jaxrl_moe.spelling import cut

if TYPE_CHECKING:
    from minigrid.core.world_object import WorldObj

LOOK = "check available actions"  # shows again what is in sight
COLORS = ("red", "green", "blue", "purple", "yellow", "grey")
_OBJECT_ACTION = re.compile(
    rf"(?P<verb>go to|pickup|go through|toggle and go through) (?P<color>{'|'.join(COLORS)}) "
    rf"((?P<state>open|closed|locked) )?(?P<kind>{'|'.join(KINDS)}) (?P<number>[1-9][0-9]{{0,3}})")
_LONGEST = 80  # characters of an action that a message repeats


@dataclasses.dataclass(frozen=True)
class Scene:
    """What the agent sees, what it is called, and what can be done.

    Attributes:
      view: what is in sight.
      names: of all things that have been in sight.
    """
    view: View
    names: Names

    @functools.cached_property
    def actions(self) -> dict[str, Moves]:
        """The actions that can be taken, with their moves: going to what there is a way to, and so on."""
        return dict(_available(self.view, self.names))


def _available(view: View, names: Names) -> Iterator[tuple[str, Moves]]:
    yield "turn left", (Move.LEFT,)
    yield "turn right", (Move.RIGHT,)
    if view.is_free(AHEAD):
        yield "move forward", (Move.FORWARD,)
    if view.ahead is not None and not _why_not_toggled(view.ahead, view, names):
        yield "toggle", (Move.TOGGLE,)
    if view.carried is not None and view.ahead is None:
        yield "drop", (Move.DROP,)
    paths = Paths(view)
    for place, thing in view.things():
        for verb, moves in _object_actions(place, thing, view, names, paths):
            yield f"{verb} {names.name(thing)}", moves


def _object_actions(place: Place, thing: "WorldObj", view: View, names: Names,
                    paths: Paths) -> Iterator[tuple[str, Moves]]:
    """Yields what can be done with a thing in sight: verb and moves."""
    way = paths.facing(place)
    through = paths.onto(place)
    if through is not None:  # of things, the agent can stand in open doors alone
        yield "go through", through
    if way is None:
        return
    yield "go to", way or (Move.WAIT,)
    if thing.type != "door" and view.carried is None:
        yield "pickup", (*way, Move.PICKUP)
    if thing.type == "door" and not thing.is_open and not _why_not_toggled(thing, view, names):
        yield "toggle and go through", (*way, Move.TOGGLE, Move.FORWARD)


def moves_of(command: str, scene: Scene) -> Moves:
    """The low-level moves of an action; none for LOOK.

    Args:
      command: as answers.action_of cleans it. Its case does not matter, "pick up" is "pickup", and a door's
        state may be left out.
      scene: where it is to be taken.

    Raises:
      BadAction: it cannot be taken; the message tells the policy why.
    """
    command = re.sub("^pick up ", "pickup ", command.lower())
    if command in scene.actions or command == LOOK:
        return scene.actions.get(command, ())
    named = _OBJECT_ACTION.fullmatch(command)
    if not named:
        raise BadAction(_why_not(command, scene.view, scene.names))
    thing = scene.names.find(named["color"], named["kind"], int(named["number"]), scene.view)
    if thing is None:
        raise BadAction(f"You see no {named['color']} {named['kind']} {named['number']}.")
    name = scene.names.name(thing)
    if named["state"] and (thing.type != "door" or named["state"] != state_of(thing)):
        raise BadAction(f"It is {name} that you see, and it is not {named['state']}.")
    action = f"{named['verb']} {name}"
    if action not in scene.actions:
        raise BadAction(_why_not_object(named["verb"], thing, scene.view, scene.names))
    return scene.actions[action]


def _why_not(command: str, view: View, names: Names) -> str:
    """Why an action that names no thing cannot be taken."""
    ahead = "nothing" if view.ahead is None else described(view.ahead, names)
    if command == "move forward":
        return f"You cannot move forward: {ahead} is in front of you."
    if command == "toggle":
        return (f"There is nothing to toggle: {ahead} is in front of you." if view.ahead is None else
                _why_not_toggled(view.ahead, view, names))
    if command == "drop":
        return ("You carry nothing that you could drop." if view.carried is None else
                f"You cannot drop it here: {ahead} is in front of you.")
    return f"There is no action {cut(command, _LONGEST)!r}." if command else "You gave no action."


def _why_not_object(verb: str, thing: "WorldObj", view: View, names: Names) -> str:
    """Why something cannot be done with a thing that is in sight."""
    name = names.name(thing)
    if thing.type == "door":
        if verb == "pickup":
            return f"A door cannot be picked up, so {name} cannot."
        if verb == "go through" and not thing.is_open:
            return f"You cannot go through {name}: toggle and go through it."
        if verb == "toggle and go through" and thing.is_open:
            return f"You need not toggle {name}: go through it."
        if verb == "toggle and go through" and (reason := _why_not_toggled(thing, view, names)):
            return reason
    elif "through" in verb:
        return f"You can go through doors alone, and {name} is none."
    if verb == "pickup" and view.carried is not None:
        return f"You carry {names.name(view.carried)}: drop it before you pick up {name}."
    return f"You see no free way to {name}."


def _why_not_toggled(thing: "WorldObj", view: View, names: Names) -> str:
    """Why toggling a thing would do nothing; empty where it would: a door opens or closes, and a box gives
    way to what is in it."""
    if thing.type == "box" or (thing.type == "door" and not thing.is_locked):
        return ""
    if thing.type != "door":
        return f"Doors and boxes can be toggled, and {described(thing, names)} is in front of you."
    key = view.carried
    if key is not None and key.type == "key" and key.color == thing.color:
        return ""
    return f"You cannot open {names.name(thing)}: you need to carry a {thing.color} key."


def described(thing: "WorldObj", names: Names) -> str:
    """A thing's name; that of a wall is "a wall"."""
    return names.name(thing) if thing.type in KINDS else f"a {thing.type}"
