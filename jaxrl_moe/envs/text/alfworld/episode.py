"""An episode of ALFWorld."""
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.envs.lifecycle import Lifecycle
from jaxrl_moe.envs.text.alfworld.play import Play, Told
from jaxrl_moe.envs.text.answers import BadAction
from jaxrl_moe.envs.text.functions import CommandForm
from jaxrl_moe.protocols import Env
from jaxrl_moe.types import Action, Messages, Step

GENERATED = "generated: a room of jaxrl_moe's own, no game of ALFWorld's"
LONGEST_COMMAND = 1000  # characters; none that does something has a tenth
# How versions of ALFWorld spell the command that puts a thing down.
_PUTS = (re.compile(r"put (.+?) in/on (.+)"), re.compile(r"move (.+?) to (.+)"))


class AlfWorldEpisode(Env):
    """One game, from its beginning until it is won.

    Args:
      play: in which it is played, not begun yet.
      game: what the worker is told to begin.
      task_type: as ALFWorld names it; a game of our own has "generated" in it.
      form: how commands are given.
      generated: whether the game is none of ALFWorld's own; each step notes it.

    Attributes:
      task_type: as given.
      available_actions: the commands that would do something now.
      shown: what is shown now.
    """

    def __init__(self, play: Play, game: Mapping[str, Any], task_type: str, form: CommandForm,
                 generated: bool = False):
        self.task_type = task_type
        self.available_actions: tuple[str, ...] = ()
        self.shown = ""
        self._play = play
        self._game = game
        self._form = form
        self._notes = {"games": GENERATED} if generated else {}
        self._life = Lifecycle()
        self._turns = 0
        self._valid = 0

    def reset(self) -> Messages:
        """What there is in the room, and the task.

        Raises:
          EnvError: the worker that plays it fails.
        """
        self._life.begin()
        return self._form.observation(self._shown(self._play.begin(self._game)))

    def step(self, action: Action) -> Step:
        """Gives a command. info: "correct", and "valid", the share of the turns up to now whose command did
        something.

        Raises:
          EnvError: the worker that plays it fails.
        """
        self._life.check_running()
        self._turns += 1
        try:
            command = spelt(self._form.command(action)[:LONGEST_COMMAND], self.available_actions)
        except BadAction as error:
            return self._step(action, f"{error}\n{_available(self.available_actions)}", False)
        self._valid += command in self.available_actions
        told = self._play.step(command)
        return self._step(action, self._shown(told), told.won)

    def _step(self, action: Action, text: str, won: bool) -> Step:
        if won:
            self._life.end()
        return Step(float(won), won, {"correct": float(won), "valid": self._valid / self._turns},
                    () if won else self._form.observation(text, action), notes=self._notes)

    def _shown(self, told: Told) -> str:
        """The observation as AgentGym's client shows it."""
        self.available_actions = told.actions
        self.shown = f"{told.observation}\n{_available(told.actions)}"
        return self.shown

    def close(self) -> None:
        """Lets the worker forget the game."""
        self._life.end()
        self._play.end()


def _available(actions: Sequence[str]) -> str:
    return f"AVAILABLE ACTIONS: {','.join(actions)}"


def spelt(command: str, actions: Sequence[str]) -> str:
    """The command as this game spells it, where it says "put mug 1 in/on desk 1" for "move mug 1 to desk 1",
    or the other way round; else as it is."""
    if command in actions:
        return command
    for form in _PUTS:
        if put := form.fullmatch(command):
            thing, place = put.groups()
            spellings = (f"put {thing} in/on {place}", f"move {thing} to {place}")
            return next((each for each in spellings if each in actions), command)
    return command
