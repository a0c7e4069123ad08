"""What servers that play whole episodes have in common: short calls, long ones, and those of the run's own
endpoint."""
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.envs.remote.session_card import session_card
from jaxrl_moe.outgoing.calls import StatusError
from jaxrl_moe.outgoing.connection import Connection
from jaxrl_moe.outside import Fields
from jaxrl_moe.types import EnvError, Status, UserError

SHORT_SECONDS = 30.0  # that a call may take which plays nothing


class PlayingServer:
    """The calls of such a server, or of several of one kind.

    Args:
      key: its API key; empty: none.
      key_env: the environment variable that has it, for messages; empty: none is named.
      timeout: seconds that an episode may take.
      patience: see Calls.

    Attributes:
      kind: what it is, for messages.
      header: that has the key; empty: Authorization.
    """
    kind: ClassVar[str]
    header: ClassVar[str] = ""

    def __init__(self, key: str, key_env: str, timeout: float, patience: float):
        self._key = key
        self._key_env = key_env
        short = min(SHORT_SECONDS, timeout)
        self.short = Connection(short, patience, key, self.header)
        self._long = Connection(timeout, patience, key, self.header)
        self._policy = Connection(short)  # the run's endpoint gets no key of the server

    def card(self, base_url: str) -> Fields:
        """What a session of the run's endpoint says of itself; see session_card."""
        return session_card(self._policy, base_url)

    def played(self, url: str, body: Mapping[str, Any]) -> Any:
        """Has episodes played, once: only a request of which nothing was sent is sent again.

        Raises:
          EnvError: no good answer came; it is final where the same request would meet the same answer.
          UserError: the server refuses the key.
        """
        try:
            return self._long.post(url, body, Status.STEP_FAILED)
        except StatusError as error:
            if error.refuses_key:
                raise UserError(self.refused(error)) from error
            raise EnvError(error.status, str(error), error.lasts) from error

    def close(self) -> None:
        """Ends the calls at work."""
        for connection in (self.short, self._long, self._policy):
            connection.close()

    def refused(self, error: StatusError) -> str:
        """The sentence for a server that lets nobody in with this key, or refuses for another reason."""
        if not error.refuses_key:
            return f"The {self.kind} is not ready: {error} See what it prints, or correct the task's url."
        if self._key:
            return (f"The {self.kind} refuses the API key of the environment variable {self._key_env!r} "
                    f"(api_key_env): {error} Set it to the key that the server was started with.")
        mend = f"set the environment variable {self._key_env!r} (api_key_env), which is not set, to it" if (
            self._key_env) else "set api_key_env to an environment variable that has it"
        return f"The {self.kind} needs an API key: {error} If it has one, {mend}."
