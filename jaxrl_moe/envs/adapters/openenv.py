"""Environments that OpenEnv serves."""
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxrl_moe.envs.adapters.forms import Commands, Form, Words
from jaxrl_moe.envs.adapters.task import (
    AdapterTask,
    json_setting,
    server_of,
    worker_file,
)
from jaxrl_moe.envs.episode_ids import episode_number
from jaxrl_moe.envs.text.answers import REACT
from jaxrl_moe.envs.text.functions import GameFunction
from jaxrl_moe.types import UserError


@dataclasses.dataclass
class OpenEnvTask(AdapterTask):
    """Episodes at a server of OpenEnv, each a session over a WebSocket of its own. A row has a number in
    `id`, which is the seed that its episode is reset with. Rewards are the environment's. The server must
    take as many sessions at once as there are episodes (its max_concurrent_envs).

    Attributes:
      url: of the server, such as "http://127.0.0.1:8000".
      command: that starts one for each worker, instead; {port} in it, and PORT in its environment, is where
        it shall listen.
      reset: what an episode is reset with beside its seed, a JSON object.
      action_field: field of the server's actions that holds what the policy says; empty: it writes the action
        as a JSON object.
      observation_field: field of its observations that the policy is shown; empty: all of them, as JSON.
      success: rewards of an episode from which on it counts as correct; None: where it ends with a reward
        above 0.
      answers: actions are given in words after "Action:" ("react"), by calling a function ("functions"), or
        are the whole answer ("text").
      max_turns: turns after which an episode is cut.
      lowest, highest: what the rewards of an episode sum to; None: not known.
      deterministic: whether the same seed and actions give the same steps.
      workers, timeout, python, variables: see AdapterTask.

    Raises:
      UserError: a setting is out of range or cannot be read, or there is not one of command and url.
    """
    url: str = ""
    command: str = ""
    reset: str = ""
    action_field: str = "message"
    observation_field: str = ""
    success: float | None = None
    answers: Literal["react", "functions", "text"] = "react"
    max_turns: int = 20
    lowest: float | None = None
    highest: float | None = None
    deterministic: bool = False
    workers: int = 2
    timeout: float = 60.0
    python: str = ""
    variables: str = ""
    package: ClassVar[str] = "openenv"
    place: ClassVar[str] = "openenv"
    install: ClassVar[str] = "make env-adapters ADAPTERS=openenv"
    worker: ClassVar[pathlib.Path] = worker_file("openenv")

    def __post_init__(self) -> None:
        self._command, self.url = server_of("A server of OpenEnv", self.command, self.url)
        self._reset = json_setting("reset", self.reset)
        if "seed" in self._reset:
            raise UserError("reset has a seed, which is the row's `id`: leave it out.")
        self.bound_rewards(self.lowest, self.highest)
        super().__post_init__()

    def settings(self) -> Mapping[str, Any]:
        return {"command": self._command, "url": self.url, "reset": self._reset,
                "action_field": self.action_field, "observation_field": self.observation_field,
                "success": self.success, "seconds": self.timeout}

    def chosen(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"number": episode_number(row, "openenv")}

    def form(self, row: Mapping[str, Any]) -> Form:
        if self.answers == "text":
            return Words()
        return Commands(self._function() if self.answers == "functions" else None)

    def _function(self) -> GameFunction:
        what = f"the {self.action_field} of the action" if self.action_field else "the action, a JSON object"
        return GameFunction("act", "Takes one action in the environment.", "{action}", {"action": what})

    def tools(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """The function `act`, where actions are given by calling it."""
        return Commands(self._function()).form.tools if self.answers == "functions" else ()

    def instructions(self, row: Mapping[str, Any]) -> str:
        """The form of an answer."""
        return REACT.format(thing="action") if self.answers == "react" else ""
