"""Environment servers that play whole episodes: how one is met, and asked by POST /rollouts."""
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.envs.remote.playing_server import PlayingServer
from jaxrl_moe.outgoing.calls import StatusError
from jaxrl_moe.outside import Fields, OutsideError
from jaxrl_moe.types import EnvError, Status, UserError


class RolloutsServer(PlayingServer):
    """The calls of such servers."""
    kind: ClassVar[str] = "environment server"

    def meet(self, url: str, env: str) -> None:
        """Asks a server how it is; raises UserError where it cannot be reached, or serves another
        environment than `env`."""
        try:
            answer = self.short.get(f"{url}/health", Status.UNREACHABLE)
            health = Fields(answer, f"The answer of {url}/health")
            served = health.string("env", env)
        except StatusError as error:
            raise UserError(self.refused(error)) from error
        except (EnvError, OutsideError) as error:
            raise UserError(f"The environment server is not ready: {error} Start it, or correct the task's "
                            "url.") from error
        if served != env:
            raise UserError(f"The server at {url} serves the environment {served!r}, and the task has env = "
                            f"{env!r}: correct one of them, or the url.")

    def rollouts(self, url: str, body: Mapping[str, Any]) -> Any:
        """Has episodes played; see played()."""
        return self.played(f"{url}/rollouts", body)
