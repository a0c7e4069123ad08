"""What the agent sees, as positions relative to it, and the names of things.

A place is (steps forward, steps to the right) of the agent, which stands at (0, 0) and looks forward.
"""
import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minigrid.core.world_object import WorldObj
    from minigrid.minigrid_env import MiniGridEnv

Place = tuple[int, int]
HERE = (0, 0)
AHEAD = (1, 0)
KINDS = ("door", "key", "ball", "box")  # of things that have names; all else in the levels is wall


@dataclasses.dataclass(frozen=True)
class View:
    """What is in sight.

    Attributes:
      cells: what is in each cell that is seen, None for nothing; the agent's own is not among them.
      carried: what the agent carries, if anything.
    """
    cells: "Mapping[Place, WorldObj | None]"
    carried: "WorldObj | None"

    @property
    def ahead(self) -> "WorldObj | None":
        """What is right in front of the agent."""
        return self.cells[AHEAD]

    def things(self) -> "Iterator[tuple[Place, WorldObj]]":
        """Yields what has a name, from near to far, of equally near first what is less ahead, then from left
        to right."""
        for place in sorted(self.cells, key=lambda place: (abs(place[0]) + abs(place[1]), place)):
            thing = self.cells[place]
            if thing is not None and thing.type in KINDS:
                yield place, thing

    def is_free(self, place: Place) -> bool:
        """Whether the agent can stand in a cell, as far as it sees."""
        if place == HERE:
            return True
        thing = self.cells.get(place)
        return place in self.cells and (thing is None or (thing.type == "door" and thing.is_open))


def look(world: "MiniGridEnv") -> View:
    """What the agent of a world sees."""
    grid, is_seen = world.gen_obs_grid()
    size = world.agent_view_size  # the agent stands in the middle of the last row
    places = [(size - 1 - row, column - size // 2) for row in range(size) for column in range(size)]
    cells = {(forward, right): grid.get(right + size // 2, size - 1 - forward) for forward, right in places
             if is_seen[right + size // 2, size - 1 - forward]}
    cells.pop(HERE)
    return View(cells, world.carrying)


class Names:
    """Names of the things of an episode: colour, state of a door, kind, and a number, which like things get
    in the order in which they come in sight and keep, wherever they are brought."""

    def __init__(self) -> None:
        self._numbers: dict[WorldObj, int] = {}
        self._counts: collections.Counter = collections.Counter()

    def learn(self, view: View) -> None:
        """Gives numbers to what is new in a view."""
        carried = [] if view.carried is None else [view.carried]
        for thing in [*carried, *(thing for _, thing in view.things())]:
            if thing not in self._numbers:
                self._counts[thing.color, thing.type] += 1
                self._numbers[thing] = self._counts[thing.color, thing.type]

    def name(self, thing: "WorldObj") -> str:
        """Such as "red ball 1" or "grey locked door 2"."""
        state = f"{state_of(thing)} " if thing.type == "door" else ""
        return f"{thing.color} {state}{thing.type} {self._numbers[thing]}"

    def find(self, color: str, kind: str, number: int, view: View) -> "WorldObj | None":
        """The thing in sight that has the name; None where there is none."""
        wanted = (color, kind, number)
        things = [thing for _, thing in view.things()
                  if (thing.color, thing.type, self._numbers[thing]) == wanted]
        return things[0] if things else None


def state_of(door: "WorldObj") -> str:
    """Whether a door is open, closed or locked."""
    return "open" if door.is_open else "locked" if door.is_locked else "closed"
