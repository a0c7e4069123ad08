"""Who plays BabyAI well: minigrid's bot, which moves step by step and plays nearly every level, and a planner
that sees what the policy sees and speaks in its actions, for missions of one room."""
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jaxrl_moe.envs.text.babyai.actions import COLORS
from jaxrl_moe.envs.text.babyai.episode import BabyAIEpisode
from jaxrl_moe.envs.text.babyai.paths import Move, Moves
from jaxrl_moe.envs.text.babyai.task import BabyAI
from jaxrl_moe.envs.text.babyai.view import View
from jaxrl_moe.types import UserError

_SPELLED = {Move.LEFT: "turn left", Move.RIGHT: "turn right", Move.FORWARD: "move forward",
            Move.DROP: "drop", Move.TOGGLE: "toggle"}
_OF_WHAT_IS_AHEAD = {Move.PICKUP: "pickup", Move.WAIT: "go to"}
_MISSION = re.compile(rf"(?P<verb>go to|pick up|open) (?:the|a) ((?P<color>{'|'.join(COLORS)}) )?"
                      r"(?P<kind>object|door|key|ball|box)")
_VERBS = {"go to": "go to", "pick up": "pickup", "open": "toggle and go through"}
_Actions = Mapping[str, Moves]
_LOOKS = 3  # turns after which all four directions have been looked at


class BotOracle:
    """minigrid's BabyAIBot, its moves spelled as actions. It sees the world as its agent does, and remembers;
    what a mission is about it reads from the world.

    Args:
      episode: that has begun.
    """

    def __init__(self, episode: BabyAIEpisode):
        from minigrid.utils.baby_ai_bot import BabyAIBot
        self._episode = episode
        self._bot = BabyAIBot(episode.world)
        self._last: int | None = None

    def action(self) -> str | None:
        """The next action, after that of the last call has been taken; None where the bot knows no way on."""
        try:
            self._last = self._bot.replan(self._last)
        except AssertionError:  # how the bot says it
            return None
        move = Move(self._last)
        ahead = self._episode.scene.view.ahead
        if move in _SPELLED:
            return _SPELLED[move]
        if ahead is None or ahead.type == "wall":  # it believes that it has done all
            return None
        return f"{_OF_WHAT_IS_AHEAD[move]} {self._episode.scene.names.name(ahead)}"


def commands(task: BabyAI, env: BabyAIEpisode, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (action, thought) of each turn of an episode that has begun, by the planner where it plays the
    mission, else by the bot, which has no thoughts of its own; each after the one before was taken. It ends
    early where the bot knows no way on."""
    if _MISSION.fullmatch(env.mission):
        planner = RoomPlanner(env)
        while True:
            thought, action = planner.advice()
            yield action, thought
    bot = BotOracle(env)
    while action := bot.action():
        yield action, f"I want to {env.mission}, so next I {action}."


class Advice(NamedTuple):
    """An action, and why."""
    thought: str
    action: str


class RoomPlanner:
    """Plays missions about one thing without its place ("go to a red ball", "open the door") by what has been
    in sight alone: it goes for what is wanted, fetches keys for the locked doors that it has seen, and else
    looks around.

    Args:
      episode: that has begun.

    Raises:
      UserError: the mission is another one.
    """

    def __init__(self, episode: BabyAIEpisode):
        mission = _MISSION.fullmatch(episode.mission)
        if not mission:
            raise UserError(f"The planner does not play {episode.mission!r}: take BotOracle.")
        self._episode = episode
        self._verb = _VERBS[mission["verb"]]
        self._wanted = (mission["color"], mission["kind"])
        self._locked: dict[str, None] = {}  # colours of the locked doors that it has seen, in that order
        self._looks = 0

    def advice(self) -> Advice:
        """The next action, after that of the last call has been taken."""
        view = self._episode.scene.view
        doors = [thing for _, thing in view.things() if thing.type == "door" and thing.is_locked]
        self._locked.update(dict.fromkeys(door.color for door in doors))
        actions = self._episode.scene.actions
        advice = self._goal(actions) or self._freed_hands(view, actions) or self._doors(actions)
        if advice:
            self._looks = 0
        return advice or self._look_around(actions)

    def _goal(self, actions: _Actions) -> Advice | None:
        action = _nearest(actions, self._verb, *self._wanted)
        return Advice(f"I see {_thing(action)}, which I want.", action) if action else None

    def _freed_hands(self, view: View, actions: _Actions) -> Advice | None:
        """Drops what is carried where what is wanted can be gone to."""
        if self._verb != "pickup" or view.carried is None or not _nearest(actions, "go to", *self._wanted):
            return None
        if "drop" in actions:
            return Advice("I need free hands.", "drop")
        return Advice("I need free hands, and cannot drop it here.", "turn right")

    def _doors(self, actions: _Actions) -> Advice | None:
        """Opens a door whose key is carried, or takes the key of one."""
        for color in self._locked:
            action = _nearest(actions, "toggle and go through", color, "locked door")
            if action:
                return Advice(f"I have the key for {_thing(action)}.", action)
            action = _nearest(actions, "pickup", color, "key")
            if action:
                return Advice(f"{_thing(action)} opens the {color} door.".capitalize(), action)
        return None

    def _look_around(self, actions: _Actions) -> Advice:
        if self._looks < _LOOKS or "move forward" not in actions:
            self._looks += 1
            return Advice("I do not see what I need, so I look around.", "turn right")
        self._looks = 0
        return Advice("I do not see what I need from here, so I walk on.", "move forward")


def _nearest(actions: _Actions, verb: str, color: str | None, kind: str) -> str | None:
    """The action of the fewest moves that does it with such a thing."""
    kinds = "(?:key|ball|box)" if kind == "object" else f"(?:[a-z]+ )?{kind}"
    wanted = re.compile(f"{verb} {color or '[a-z]+'} {kinds} [0-9]+")
    return min(filter(wanted.fullmatch, actions), key=lambda action: len(actions[action]), default=None)


def _thing(action: str) -> str:
    """The name of the thing in an action."""
    return re.sub("^(go to|pickup|toggle and go through) ", "", action)
