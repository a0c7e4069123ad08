"""A room of our own, played by rules that are written down here a second time, without the package."""
import collections

from jaxrl_moe.envs.text.alfworld.furniture import CAN_BE, HOLDS, LAMP

STATIONS = {"clean": ("SinkBasin", "cleanable"), "heat": ("Microwave", "heatable"),
            "cool": ("Fridge", "coolable")}


class House:
    """One game. Its state can be copied by `state` and put back."""

    def __init__(self, game):
        self.game = game
        self.furniture = {piece.name: piece for piece in game.furniture}
        self.things = {thing.name: thing for thing in game.things}
        self.at = ""
        self.opened = frozenset()
        self.held = ""
        self.where = {thing.name: thing.where.name for thing in game.things}
        self.marks = frozenset()  # (thing, what was done to it)

    @property
    def state(self):
        return self.at, self.opened, self.held, tuple(sorted(self.where.items())), self.marks

    @state.setter
    def state(self, state):
        self.at, self.opened, self.held, where, self.marks = state
        self.where = dict(where)

    def _is_shut(self, piece):
        return self.furniture[piece].is_openable and piece not in self.opened

    def _lying(self, piece):
        return sorted(thing for thing, place in self.where.items() if place == piece)

    def opening(self):
        things = ", ".join(f"a {name}" for name in self.furniture)
        return ("You are in the middle of a room. Looking quickly around you, you see "
                f"{things}.\n{self.sentence()}")

    def sentence(self):
        task, thing, place = self.game.goal
        thing, place = thing.lower(), place.lower()
        words = {"pick_and_place_simple": (f"put a {thing} in {place}", f"put some {thing} on {place}"),
                 "look_at_obj_in_light": (f"look at {thing} under the {place}",
                                          f"examine the {thing} with the {place}"),
                 "pick_clean_then_place_in_recep": (f"put a clean {thing} in {place}",
                                                    f"clean some {thing} and put it in {place}"),
                 "pick_heat_then_place_in_recep": (f"put a hot {thing} in {place}",
                                                   f"heat some {thing} and put it in {place}"),
                 "pick_cool_then_place_in_recep": (f"put a cool {thing} in {place}",
                                                   f"cool some {thing} and put it in {place}"),
                 "pick_two_obj_and_place": (f"put two {thing} in {place}",
                                            f"find two {thing} and put them in {place}")}
        return f"Your task is to: {words[task][self.game.phrase]}."

    def actions(self):
        """All that does something now, as ALFWorld lists it."""
        found = {"look", "inventory", "help"}
        found |= {f"go to {name}" for name in self.furniture if name != self.at}
        if self.held:
            found.add(f"examine {self.held}")
        if not self.at:
            return sorted(found)
        here = self.furniture[self.at]
        found.add(f"examine {self.at}")
        if here.is_openable:
            found.add(f"{'open' if self._is_shut(self.at) else 'close'} {self.at}")
        for thing in self._lying(self.at):
            if self.things[thing].kind == LAMP:
                found.add(f"use {thing}")
            if not (self._is_shut(self.at) or self.held or self.things[thing].kind == LAMP):
                found.add(f"take {thing} from {self.at}")
        return sorted(found | self._with_held(here))

    def _with_held(self, here):
        if not self.held:
            return set()
        kind = self.things[self.held].kind
        found = {f"{verb} {self.held} with {here.name}" for verb, (station, needed) in STATIONS.items()
                 if here.kind == station and kind in CAN_BE[needed]}
        if kind in HOLDS[here.kind] and not self._is_shut(self.at):
            found.add(f"move {self.held} to {self.at}")
        return found

    def do(self, command):
        """Carries out a command of actions(); what it shows."""
        verb, *words = command.split()
        if verb == "go":
            self.at = " ".join(words[1:])
            return f"You arrive at {self.at}. {self._shows()}"
        if verb == "open":
            self.opened |= {self.at}
            return f"You open the {self.at}. {self._shows()}"
        if verb == "close":
            self.opened -= {self.at}
        if verb == "take":
            self.held = " ".join(words[:2])
            self.where[self.held] = ""
        if verb == "move":
            self.where[self.held] = self.at
            self.held = ""
        if verb in STATIONS:
            self.marks |= {(self.held, verb)}
            self.marks -= {(self.held, {"heat": "cool", "cool": "heat"}.get(verb))}
        if verb == "use":
            self.marks |= {(" ".join(words), "use")}
        return f"You {command}."

    def _shows(self):
        if self._is_shut(self.at):
            return f"The {self.at} is closed."
        things = ", ".join(f"a {thing}" for thing in self._lying(self.at)) or "nothing"
        opened = self.furniture[self.at].is_openable
        place = f"The {self.at} is open. In it" if opened else f"On the {self.at}"
        return f"{place}, you see {things}."

    def won(self):
        task, kind, place = self.game.goal
        verb = {"clean": "clean", "heat": "heat", "cool": "cool"}.get(task.split("_")[1])
        if task == "look_at_obj_in_light":
            lit = any(self.where[thing] == self.at for thing, done in self.marks if done == "use")
            return lit and self.held.split()[:1] == [kind.lower()]
        fit = [thing for thing in self.where if self.things[thing].kind == kind
               and (not verb or (thing, verb) in self.marks)]
        placed = [self.where[thing] for thing in fit if self.where[thing].split()[:1] == [place.lower()]]
        return max(collections.Counter(placed).values(), default=0) >= (2 if "two" in task else 1)


def shortest(game, most=14):
    """Length of the shortest way to win, by trying all."""
    house = House(game)
    seen = {house.state}
    level = [house.state]
    for length in range(most):
        following = []
        for state in level:
            house.state = state
            if house.won():
                return length
            for command in house.actions():
                if command.split()[0] in ("look", "inventory", "help", "examine", "close"):
                    continue
                house.state = state
                house.do(command)
                if house.state not in seen:
                    seen.add(house.state)
                    following.append(house.state)
        level = following
    return None
