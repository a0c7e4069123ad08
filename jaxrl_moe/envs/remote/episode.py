"""An episode in an environment server: a session, from its creation to its end."""
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxrl_moe.envs.remote.formats import Format
from jaxrl_moe.envs.remote.readings import Told
from jaxrl_moe.envs.text.answers import BadAction
from jaxrl_moe.envs.text.functions import CommandForm
from jaxrl_moe.outgoing.connection import Connection
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.protocols import Env
from jaxrl_moe.types import Action, EnvError, Messages, Status, Step, UserError


class RemoteEpisode(Env):
    """A session at a server.

    Args:
      connection: to call it by.
      wire: what its environment is sent and answers with.
      form: how the policy gives commands.
      url: of the server.
      row: what /reset is sent of it.
      forget: called once the episode is closed.
    """

    def __init__(self, connection: Connection, wire: Format, form: CommandForm, url: str,
                 row: Mapping[str, Any], forget: Callable[["RemoteEpisode"], None]):
        self._connection = connection
        self._format = wire
        self._form = form
        self._url = url
        self._row = row
        self._forget = forget
        self._session: int | None = None
        self._score = 0.0
        self._actions: Sequence[str] = ()
        self._state = "new"
        self._closed = False  # also by another thread, as the task is closed

    def reset(self) -> Messages:
        """Creates a session and begins its episode.

        Raises:
          EnvError: the server cannot be reached, refuses, or does not answer as it should.
        """
        if self._state != "new" or self._closed:
            raise UserError("This episode has begun already, or is closed: open another one.")
        self._state = "failed"
        self._session = self._call("/create", {}, Status.RESET_FAILED, self._format.session_of)
        told = self._call("/reset", self._named() | self._row, Status.RESET_FAILED, self._format.begun)
        self._score = told.score
        self._actions = told.actions
        self._state = "running"
        return self._messages(told.observation)

    def step(self, action: Action) -> Step:
        """Sends the command of an answer; a call of no function, or of several, is told to the policy.

        Raises:
          EnvError: as reset() does.
          UserError: the episode has not begun, has ended or has failed.
        """
        if self._state != "running" or self._closed:
            state = "closed" if self._closed else self._state
            raise UserError(f"This episode is {state}, and not running: open another one.")
        try:
            command = self._format.spelt(self._form.command(action), self._actions)
        except BadAction as error:
            return Step(0.0, False, {"correct": 0.0}, self._messages(str(error), action))
        self._state = "failed"
        body = self._named() | {"action": command}
        told = self._call("/step", body, Status.STEP_FAILED,
                          lambda answer, where: self._format.stepped(answer, self._score, where))
        self._score = told.score
        self._actions = told.actions
        self._state = "ended" if told.done else "running"
        shown = () if told.done else self._messages(told.observation, action)
        return Step(told.reward, told.done, _info(told), shown, told.achieved, told.notes, told.truncated)

    def close(self) -> None:
        """Lets the server close the session, if it can; nobody waits for it."""
        if self._closed:
            return
        self._closed = True
        self._forget(self)
        if self._session is not None:
            self._connection.post_later(f"{self._url}/close", self._named())

    def _messages(self, text: str, action: Action | None = None) -> Messages:
        return self._form.observation(text, action) if text or self._form.functions else ()

    def _named(self) -> dict[str, int]:
        return {self._format.session: self._session}

    def _call(self, path: str, body: Mapping[str, Any], failed: Status,
              read: Callable[[Any, str], Any]) -> Any:
        """What `read` makes of an answer."""
        url = self._url + path
        answer = self._connection.post(url, body, failed)
        try:
            return read(answer, f"The answer of {url}")
        except OutsideError as error:
            raise EnvError(Status.MALFORMED, str(error)) from error


def _info(told: Told) -> Mapping[str, float]:
    """As the server tells it; else an episode is correct where it ends with a reward."""
    return {"correct": float(told.done and told.reward > 0)} if told.info is None else told.info
