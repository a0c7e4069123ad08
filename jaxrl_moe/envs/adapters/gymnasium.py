"""Environments of Gymnasium 1.x in words."""
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxrl_moe.envs.adapters.forms import Commands
from jaxrl_moe.envs.adapters.task import AdapterTask, json_setting, worker_file
from jaxrl_moe.envs.episode_ids import episode_number
from jaxrl_moe.envs.text.answers import REACT
from jaxrl_moe.envs.text.functions import Answers, GameFunction
from jaxrl_moe.spelling import named
from jaxrl_moe.types import UserError


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of an environment that Gymnasium has.

    Attributes:
      actions: their names, from number 0 on.
      lowest, highest: what an episode's rewards sum to.
    """
    actions: str
    lowest: float | None = None
    highest: float | None = None


_MOVES = "left,down,right,up"
KNOWN = {
    "FrozenLake-v1": Known(_MOVES, 0.0, 1.0),
    "FrozenLake8x8-v1": Known(_MOVES, 0.0, 1.0),
    "CliffWalking-v1": Known("up,right,down,left"),
    "CliffWalkingSlippery-v1": Known("up,right,down,left"),
    "Taxi-v4": Known("south,north,east,west,pickup,dropoff", -2000.0, 20.0),  # 200 moves of -10 at worst
    "Blackjack-v1": Known("stick,hit", -1.0, 1.5)}
_LONGEST_NUMBER = 2**31 - 1


@dataclasses.dataclass
class GymnasiumTask(AdapterTask):
    """Episodes of an environment that gymnasium.make makes, with discrete actions or texts as actions. A row
    has a number in `id`, with which the environment is seeded. Rewards are the environment's.

    Attributes:
      id: as gymnasium.make takes it, such as "FrozenLake-v1", or "package:Name-v0".
      options: further arguments of gymnasium.make, a JSON object.
      actions: names of the actions with commas between, from the first number on; a policy may also say the
        number. Empty: those of the environments that Gymnasium calls toys of text, and else numbers.
      view: what is shown: "render", the text that the environment draws; "value", the observation itself;
        "auto": drawn where it draws texts.
      success: rewards of an episode from which on it counts as correct; None: where it ends with a reward
        above 0.
      max_turns: turns after which an episode is cut; what the environment itself bounds it cuts too.
      answers: actions are given in words ("react") or by calling a function.
      lowest, highest: what the rewards of an episode sum to; None: as known of Gymnasium's own, or not known.
      deterministic: whether the same seed and actions give the same steps; None: Gymnasium's own do.
      workers, timeout, python, variables: see AdapterTask; python is this process's own where it is empty.

    Raises:
      UserError: a setting is out of range, or cannot be read.
    """
    id: str
    options: str = ""
    actions: str = ""
    view: Literal["auto", "render", "value"] = "auto"
    success: float | None = None
    max_turns: int = 30
    answers: Answers = "react"
    lowest: float | None = None
    highest: float | None = None
    deterministic: bool | None = None
    workers: int = 2
    timeout: float = 60.0
    python: str = ""
    variables: str = ""
    package: ClassVar[str] = "gymnasium"
    place: ClassVar[str] = ""
    install: ClassVar[str] = "pip install 'jaxrl-moe[agents]'"
    worker: ClassVar[pathlib.Path] = worker_file("gymnasium")

    def __post_init__(self) -> None:
        self._options = json_setting("options", self.options)
        known = KNOWN.get(self.id, Known(""))
        if "render_mode" in self._options:
            raise UserError("options has render_mode, which follows from view: leave it out.")
        if any("reward" in name for name in self._options) or self.options and self.id == "Taxi-v4":
            known = Known(known.actions)  # such as FrozenLake's reward_schedule
        self._names = [name.strip() for name in (self.actions or known.actions).split(",") if name.strip()]
        if len({name.lower() for name in self._names}) < len(self._names):
            raise UserError(f"actions names one twice ({named(self._names)}): give each a name of its own.")
        if self.deterministic is None:
            self.deterministic = self.id in KNOWN
        self.bound_rewards(known.lowest if self.lowest is None else self.lowest,
                           known.highest if self.highest is None else self.highest)
        super().__post_init__()

    def settings(self) -> Mapping[str, Any]:
        return {"id": self.id, "options": self._options, "names": self._names, "view": self.view,
                "success": self.success}

    def chosen(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"number": episode_number(row, "gymnasium", _LONGEST_NUMBER)}

    def form(self, row: Mapping[str, Any]) -> Commands:
        return Commands(self._function() if self.answers == "functions" else None)

    def _function(self) -> GameFunction:
        what = f"one of {', '.join(self._names)}" if self._names else "its number, or its text"
        return GameFunction("act", "Takes one action in the environment.", "{action}",
                            {"action": f"the action: {what}"})

    def tools(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """The function `act`, where actions are given by calling it."""
        return self.form(row).form.tools

    def instructions(self, row: Mapping[str, Any]) -> str:
        """The form of an answer; the episode tells the actions."""
        goal = f"You act in the environment {self.id}, and shall collect as much reward as you can."
        return f"{goal} Call the function `act` once a turn." if self.answers == "functions" else (
            f"{goal} {REACT.format(thing='action')}")
