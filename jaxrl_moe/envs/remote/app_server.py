"""A task app's server: how it is met, and its calls, each failure told by what it means for the run."""
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.envs.remote.playing_server import PlayingServer
from jaxrl_moe.outgoing.calls import StatusError
from jaxrl_moe.outside import Fields, OutsideError, as_object
from jaxrl_moe.types import EnvError, Status, UserError

TURN_LIMITS = {"max_turns": 1, "ops": 2, "max_ops": 2}  # name in /info -> what of it a turn takes


class AppServer(PlayingServer):
    """The calls of a task app.

    Args:
      url: of the app.
      key, key_env, timeout, patience: see PlayingServer.

    Attributes:
      most_seconds: that the app lets a rollout take (safety.max_time_s), as far as it has told.
    """

    kind: ClassVar[str] = "task app"
    header: ClassVar[str] = "X-API-Key"

    def __init__(self, url: str, key: str, key_env: str, timeout: float, patience: float):
        super().__init__(key, key_env, timeout, patience)
        self.url = url
        self.most_seconds = math.inf

    def meet(self, env_name: str, max_turns: int) -> str:
        """Asks how the app is and what it plays; returns env_name, or the id of the app's own task where that
        is empty.

        Raises:
          UserError: it cannot be reached, refuses the key, is not healthy, or takes fewer turns.
        """
        try:
            health = Fields(self.short.get(f"{self.url}/health", Status.UNREACHABLE), f"{self.url}/health")
            healthy = health.boolean("healthy")
            info = as_object(self.short.get(f"{self.url}/info", Status.UNREACHABLE), f"{self.url}/info")
        except StatusError as error:
            raise UserError(self.refused(error)) from error
        except (EnvError, OutsideError) as error:
            raise UserError(f"The task app is not ready: {error} Start it, or correct the task's "
                            "url.") from error
        if not healthy:
            raise UserError(f"The task app at {self.url} says that it is not healthy: see what it prints.")
        limits = _limits(info)
        _check_turns(max_turns, limits, f"{self.url}/info")
        self.most_seconds = limits.get("max_time_s", math.inf)
        return env_name or _task_id(info, f"The answer of {self.url}/info")

    def policy(self, base_url: str, model: str) -> dict[str, Any]:
        """How the app shall call the policy at a session's base_url: under its name, and with the wishes that
        the run draws by, since it refuses others."""
        card = self.card(base_url)
        try:
            sampling = card.object("sampling")
            wishes = {name: sampling.number(name) for name in ("temperature", "top_p")}
            return {"model": model or card.string("id"), "inference_url": base_url, **wishes,
                    "max_tokens": sampling.integer("max_tokens")}
        except OutsideError as error:
            raise EnvError(Status.MALFORMED, str(error)) from error

    def rollout(self, body: Mapping[str, Any]) -> Any:
        """Has a rollout played; see played()."""
        return self.played(f"{self.url}/rollout", body)


def _limits(info: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among the limits that /info tells; no contract says what else may stand there."""
    told = info.get("limits")
    listed = told.items() if isinstance(told, dict) else ()
    return {name: value for name, value in listed
            if isinstance(value, int | float) and not isinstance(value, bool)}


def _check_turns(max_turns: int, limits: Mapping[str, float], where: str) -> None:
    for name, each in TURN_LIMITS.items():
        most = limits.get(name, math.inf)
        if each * max_turns > most:
            raise UserError(f"max_turns = {max_turns} is more than the task app takes, whose limits.{name} "
                            f"is {most:g} ({where}): set max_turns to at most {int(most // each)}.")


def _task_id(info: Mapping[str, Any], where: str) -> str:
    """What /info calls the task."""
    service = Fields(info, where).object("service", None) or Fields(info, where)
    task = service.object("task", None)
    name = task and (task.string("id", "") or task.string("name", ""))
    if not name:
        raise UserError(f"{where} does not say what the task is called (service.task.id): set env_name.")
    return name
