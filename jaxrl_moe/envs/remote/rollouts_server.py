"""Environment servers that play whole episodes: how one is met, and asked by POST /rollouts."""
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.envs.remote.session_card import session_card
from jaxrl_moe.outgoing.calls import StatusError
from jaxrl_moe.outgoing.connection import Connection
from jaxrl_moe.outside import Fields, OutsideError
from jaxrl_moe.types import EnvError, Status, UserError

SHORT_SECONDS = 30.0  # that a call may take which plays nothing


class RolloutsServer:
    """The calls of such servers.

    Args:
      key: of all of them; empty: none.
      key_env: the environment variable that has it, for messages.
      timeout: seconds that an episode may take.
      patience: see Calls.
    """

    def __init__(self, key: str, key_env: str, timeout: float, patience: float):
        self._key_env = key_env
        short = min(SHORT_SECONDS, timeout)
        self._short = Connection(short, patience, key)
        self._long = Connection(timeout, patience, key)
        self._policy = Connection(short)  # the run's endpoint gets no key of the servers

    def meet(self, url: str, env: str) -> None:
        """Asks a server how it is; raises UserError where it cannot be reached, or serves another
        environment than `env`."""
        try:
            answer = self._short.get(f"{url}/health", Status.UNREACHABLE)
            health = Fields(answer, f"The answer of {url}/health")
            served = health.string("env", env)
        except StatusError as error:
            if error.refuses_key:
                raise UserError(self._refused(error)) from error
            raise UserError(f"The environment server is not ready: {error}") from error
        except (EnvError, OutsideError) as error:
            raise UserError(f"The environment server is not ready: {error} Start it, or correct the task's "
                            "url.") from error
        if served != env:
            raise UserError(f"The server at {url} serves the environment {served!r}, and the task has env = "
                            f"{env!r}: correct one of them, or the url.")

    def card(self, base_url: str) -> Fields:
        """What a session of the run's endpoint says of itself; see session_card."""
        return session_card(self._policy, base_url)

    def rollouts(self, url: str, body: Mapping[str, Any]) -> Any:
        """Has episodes played, once: only a request of which nothing was sent is sent again.

        Raises:
          EnvError: no good answer came.
          UserError: the server refuses the key.
        """
        try:
            return self._long.post(f"{url}/rollouts", body, Status.STEP_FAILED)
        except StatusError as error:
            if error.refuses_key:
                raise UserError(self._refused(error)) from error
            raise EnvError(error.status, str(error), error.lasts) from error

    def close(self) -> None:
        """Ends the calls at work."""
        for connection in (self._short, self._long, self._policy):
            connection.close()

    def _refused(self, error: StatusError) -> str:
        if not self._key_env:
            return (f"The environment server needs an API key, or does not answer under this name: {error} "
                    "Set api_key_env to an environment variable that has its key.")
        return (f"The environment server refuses the API key of the environment variable {self._key_env!r} "
                f"(api_key_env): {error} Set it to the key that the server was started with.")
