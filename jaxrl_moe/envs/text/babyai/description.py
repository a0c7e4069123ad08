"""A view in words."""
from collections.abc import Iterable

from jaxrl_moe.envs.text.babyai.actions import Scene, described
from jaxrl_moe.envs.text.babyai.view import Place, View


def describe(scene: Scene) -> str:
    """What is in sight, in lines: what is ahead, the things with where they are, walls straight ahead, to the
    left and to the right, what is carried, and the available actions."""
    view = scene.view
    names = scene.names
    ahead = "nothing" if view.ahead is None else described(view.ahead, names)
    things = [f"{names.name(thing)}: {where(place)}" for place, thing in view.things()]
    walls = [where(place) for place in _nearest_walls(view)]
    carried = "nothing" if view.carried is None else names.name(view.carried)
    return "\n".join([f"Ahead: {ahead}", f"You see: {'; '.join(things) or 'nothing'}",
                      f"Walls: {'; '.join(walls) or 'none in sight'}", f"Carrying: {carried}",
                      available_line(scene)])


def available_line(scene: Scene) -> str:
    """The line that lists the actions that can be taken."""
    return f"Available actions: {', '.join(scene.actions)}"


def where(place: Place) -> str:
    """A place in words, such as "2 steps forward and 1 step left"."""
    forward, right = place
    words = [f"{_steps(forward)} forward"] * (forward > 0)
    words += [f"{_steps(abs(right))} {'right' if right > 0 else 'left'}"] * (right != 0)
    return " and ".join(words)


def _steps(count: int) -> str:
    return f"{count} step{'s' * (count > 1)}"


def _nearest_walls(view: View) -> Iterable[Place]:
    """The nearest wall in sight straight ahead, to the left and to the right, where there is one."""
    for forward, right in ((1, 0), (0, -1), (0, 1)):
        line = [(forward * steps, right * steps) for steps in range(1, 1 + len(view.cells))]
        walls = [place for place in line
                 if (thing := view.cells.get(place)) is not None and thing.type == "wall"]
        yield from walls[:1]
