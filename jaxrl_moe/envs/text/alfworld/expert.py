"""A player who does what ALFWorld's tasks ask by what it is shown alone: it looks where a thing may lie until
it finds it."""
import dataclasses
import re
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from jaxrl_moe.envs.text.alfworld.furniture import HOLDS
from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import UserError

_PIECE = re.compile(r"(?:a|the) (\w+ \d+)")
# What ALFWorld's sentences ask for, as (verb done to the thing first, how many, pattern).
_ASKED = (
    ("clean", 1, r"put a clean (\w+) in (\w+)|clean some (\w+) and put it in (\w+)"),
    ("heat", 1, r"put a hot (\w+) in (\w+)|heat some (\w+) and put it in (\w+)"),
    ("cool", 1, r"put a cool (\w+) in (\w+)|cool some (\w+) and put it in (\w+)"),
    ("", 2, r"put two (\w+) in (\w+)|find two (\w+) and put them in (\w+)"),
    ("use", 1, r"look at (\w+) under the (\w+)|examine the (\w+) with the (\w+)"),
    ("", 1, r"put a (\w+) in (\w+)|put some (\w+) on (\w+)"))
_STATIONS = {"clean": ("sinkbasin", "bathtubbasin"), "heat": ("microwave",), "cool": ("fridge",)}
_LYING = {kind.lower(): {thing.lower() for thing in things} for kind, things in HOLDS.items()}


class Asked(NamedTuple):
    """What a task asks for: something done to so many things of a kind, and the kind of place that they go
    to, or of the lamp that is used."""
    verb: str
    count: int
    thing: str
    place: str


class Advice(NamedTuple):
    """What to do next, and why."""
    thought: str
    command: str


def asked(opening: str) -> Asked:
    """What the first observation of a game asks for. Raises UserError for a sentence that ALFWorld does not
    have."""
    sentence = opening.partition("Your task is to: ")[2].partition("\n")[0].strip().removesuffix(".")
    for verb, count, pattern in _ASKED:
        if match := re.fullmatch(pattern, sentence):
            thing, place = filter(None, match.groups())
            return Asked(verb, count, thing, place)
    raise UserError(f"The expert does not know what {quoted(sentence)} asks for: it knows the sentences of "
                    "ALFWorld's six types of tasks.")


@dataclasses.dataclass
class Expert:
    """Args:
      opening: the first observation of a game.

    Attributes:
      places: the furniture of the room.
      lying: {piece of furniture: things seen there}, of what was seen inside.
    """
    opening: str

    def __post_init__(self) -> None:
        self.asked = asked(self.opening)
        self.places = _PIECE.findall(self.opening.partition("Your task is to")[0])
        self.lying: dict[str, list[str]] = {}
        self._told = ""
        self._actions: Sequence[str] = ()
        self._at = ""
        self._way = self._played()

    def advice(self, told: str, actions: Sequence[str]) -> Advice | None:
        """What to do next.

        Args:
          told: the observation that came of the advice before; that of the beginning for the first.
          actions: the commands that would do something now.

        Returns:
          None: there is nothing more that it could try.
        """
        self._told = told.partition("\nAVAILABLE ACTIONS:")[0]
        self._actions = actions
        return next(self._way, None)

    def _played(self) -> Iterator[Advice]:
        verb, count, kind, place = self.asked
        done: list[str] = []
        for _ in range(count):
            found = yield from self._find(kind, done)
            if found is None:
                return
            yield Advice(f"Here is {found}, which I need.", f"take {found} from {self._at}")
            self.lying[self._at].remove(found)
            if verb == "use":
                lamp = yield from self._find(place)
                if lamp is not None:
                    yield Advice(f"I have {found}, and here is {lamp}: I turn it on.", f"use {lamp}")
                return
            if verb:
                yield from self._changed(verb, found)
            yield from self._put(found, place, done)
            done.append(found)

    def _find(self, kind: str, but: Sequence[str] = ()) -> Generator[Advice, None, str | None]:
        """Goes where a thing of a kind is, other than those left out, and returns it; None where there is
        none."""
        for piece in self._search(kind):
            seen = self._seen(piece, kind, but)
            if piece in self.lying and not seen:
                continue
            yield from self._go(piece, f"I have seen {seen[0]} at {piece}." if seen else
                                f"I look for a {kind}, which may be at {piece}.")
            yield from self._open(piece, "What is inside, I see when it is open.")
            if seen := self._seen(piece, kind, but):
                return seen[0]
        return None

    def _seen(self, piece: str, kind: str, but: Sequence[str] = ()) -> list[str]:
        return [thing for thing in self.lying.get(piece, ()) if thing.split()[0] == kind and thing not in but]

    def _changed(self, verb: str, thing: str) -> Iterator[Advice]:
        """Does what is to be done to a thing before it is put down."""
        kinds = [kind for kind in _STATIONS[verb] if self._of_kind(kind)]
        for station in self._of_kind(kinds[0]) if kinds else ():
            yield from self._go(station, f"I have {thing}, and am to {verb} it: {station} does that.")
            yield Advice(f"I am at {station} and {verb} {thing}.", f"{verb} {thing} with {station}")
            return

    def _put(self, thing: str, place: str, done: list[str]) -> Iterator[Advice]:
        """Brings a thing to a place of a kind; the second of two to where the first one is."""
        places = self._of_kind(place)
        before = [piece for piece in places if set(self.lying.get(piece, ())) & set(done)]
        for piece in before or places:
            yield from self._go(piece, f"I have {thing}, which belongs in {piece}.")
            yield from self._open(piece, "It is closed: I open it first.")
            command = next((each for each in self._actions if _puts(each, thing, piece)), "")
            if command:
                yield Advice(f"I put {thing} here.", command)
                self.lying.setdefault(piece, []).append(thing)
                return

    def _go(self, piece: str, thought: str) -> Iterator[Advice]:
        if self._at != piece:
            yield Advice(thought, f"go to {piece}")
            self._at = piece
            self._look(piece)

    def _open(self, piece: str, thought: str) -> Iterator[Advice]:
        if f"open {piece}" in self._actions:
            yield Advice(thought, f"open {piece}")
            self._look(piece)

    def _look(self, piece: str) -> None:
        """Takes in what the observation shows at a piece of furniture; what is shut shows nothing."""
        _, shows, things = self._told.rpartition("you see ")
        if shows:
            self.lying[piece] = _PIECE.findall(things)

    def _search(self, kind: str) -> list[str]:
        """The furniture: where a thing of a kind was seen, then where such may lie, then the rest, each in
        the order in which the room shows it."""
        def rank(piece: str) -> tuple[bool, bool]:
            return not self._seen(piece, kind), kind not in _LYING.get(piece.split()[0], {kind})
        return sorted(self.places, key=rank)

    def _of_kind(self, kind: str) -> list[str]:
        return [piece for piece in self.places if piece.split()[0] == kind]


def _puts(command: str, thing: str, piece: str) -> bool:
    return command in (f"move {thing} to {piece}", f"put {thing} in/on {piece}")
