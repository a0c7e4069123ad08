"""How a game of our own is won, by one who knows where everything is: no way is shorter."""
import itertools

from jaxrl_moe.envs.text.alfworld.rooms import LIGHT, TASKS, TWO, Furniture, RoomGame, Thing

_DOES = {"cleanable": "clean", "heatable": "heat", "coolable": "cool"}


def plan(game: RoomGame) -> list[str]:
    """The commands, in order."""
    wanted = [each for each in game.things if each.kind == game.goal.thing]
    if game.goal.task == LIGHT:
        lamp = next(each for each in game.things if each.kind == game.goal.place)
        ways = [_lit(thing, lamp) for thing in wanted]
    else:
        places = [each for each in game.furniture if each.kind == game.goal.place]
        together = itertools.permutations(wanted, 2 if game.goal.task == TWO else 1)
        ways = [_brought(game, things, place) for things, place in itertools.product(together, places)]
    return min(ways, key=len)


class _Walk:
    """Commands, and what they have changed so far."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self._at: Furniture | None = None
        self._open: set[Furniture] = set()

    def reach(self, piece: Furniture) -> None:
        """Goes there; and what can be opened is."""
        self.go(piece)
        if piece.is_openable and piece not in self._open:
            self.commands.append(f"open {piece.name}")
            self._open.add(piece)

    def go(self, piece: Furniture) -> None:
        if self._at != piece:
            self.commands.append(f"go to {piece.name}")
            self._at = piece

    def take(self, thing: Thing) -> None:
        self.reach(thing.where)
        self.commands.append(f"take {thing.name} from {thing.where.name}")


def _lit(thing: Thing, lamp: Thing) -> list[str]:
    walk = _Walk()
    walk.take(thing)
    walk.go(lamp.where)
    return [*walk.commands, f"use {lamp.name}"]


def _brought(game: RoomGame, things: tuple[Thing, ...], place: Furniture) -> list[str]:
    walk = _Walk()
    station, needed = TASKS[game.goal.task]
    for thing in things:
        walk.take(thing)
        if needed:
            # Two of them may be as near; either way it is left with one command.
            piece = next(each for each in game.furniture if each.kind == station)
            piece = thing.where if thing.where.kind == station else piece
            walk.go(piece)
            walk.commands.append(f"{_DOES[needed]} {thing.name} with {piece.name}")
        walk.reach(place)
        walk.commands.append(f"move {thing.name} to {place.name}")
    return walk.commands
