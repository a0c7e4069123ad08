"""Ways over the cells that the agent sees, in low-level moves."""
import enum
from collections.abc import Mapping

from jaxrl_moe.envs.text.babyai.view import HERE, Place, View


class Move(enum.IntEnum):
    """What minigrid's agent can do, by minigrid's numbers."""
    LEFT = 0
    RIGHT = 1
    FORWARD = 2
    PICKUP = 3
    DROP = 4
    TOGGLE = 5
    WAIT = 6  # which minigrid calls done; it only looks whether the mission is fulfilled


Moves = tuple[Move, ...]
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # by heading: 0 as at first, then clockwise
_WAYS = {Move.FORWARD: 0, Move.LEFT: -1, Move.RIGHT: 1}  # and what each adds to the heading


class Paths:
    """The shortest ways from where the agent is, over cells that it sees and that are free; of equally short
    ones that which moves forward first, then turns left.

    Args:
      view: what it sees.
    """

    def __init__(self, view: View):
        self._ways: Mapping[tuple[Place, int], Moves] = _flooded(view)

    def onto(self, place: Place) -> Moves | None:
        """The way into a cell; None where none is seen."""
        return self._first({(place, heading) for heading in range(4)})

    def facing(self, place: Place) -> Moves | None:
        """The way to where the cell is right in front of the agent; None where none is seen."""
        return self._first({((place[0] - forward, place[1] - right), heading)
                            for heading, (forward, right) in enumerate(_STEPS)})

    def _first(self, states: set[tuple[Place, int]]) -> Moves | None:
        return next((way for state, way in self._ways.items() if state in states), None)


def _flooded(view: View) -> dict[tuple[Place, int], Moves]:
    """{(place, heading): way}, the shortest first."""
    ways: dict[tuple[Place, int], Moves] = {(HERE, 0): ()}
    border = [(HERE, 0)]
    for place, heading in border:  # which grows meanwhile
        for move, turn in _WAYS.items():
            step = _STEPS[heading] if move is Move.FORWARD else HERE
            state = ((place[0] + step[0], place[1] + step[1]), (heading + turn) % 4)
            if state not in ways and view.is_free(state[0]):
                ways[state] = (*ways[place, heading], move)
                border.append(state)
    return ways
