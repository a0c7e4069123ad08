"""Episodes that a server plays itself, each in a session of the server's own that ends with it."""
import asyncio
import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

from jaxrl_moe.serving.envs.sessions import Sessions
from jaxrl_moe.serving.policy.client import Policy
from jaxrl_moe.serving.rollouts.run import PLAIN, Opening, Played, play
from jaxrl_moe.types import EnvError, Status, UserError


class OwnEpisodes:
    """Plays them. Its methods are the event loop's."""

    def __init__(self, sessions: Sessions):
        self._sessions = sessions

    async def play(self, row: Mapping[str, Any], policy: Policy, rounds: int, opening: Opening = PLAIN,
                   **sampling: Any) -> Played:
        """Plays the episode of a row, see run.play.

        Raises:
          EnvError: there is no room for a session, or the policy or the environment failed.
        """
        try:
            session = self._sessions.create_own()
        except UserError as error:
            raise EnvError(Status.RESET_FAILED, str(error)) from error
        try:
            calls = functools.partial(self._in_pool, self._sessions.using, session)
            return await play(calls, row, policy, rounds, opening, **sampling)
        finally:  # also where it is cancelled again meanwhile
            await asyncio.shield(self._in_pool(self._end, session))

    def _end(self, session: int) -> None:
        with contextlib.suppress(UserError):  # the server is ending, and has ended it
            self._sessions.end(session, "rolled out")

    def _in_pool(self, call: Callable[..., Any], *arguments: Any) -> "asyncio.Future[Any]":
        """Makes a call in a thread of the sessions."""
        return asyncio.get_running_loop().run_in_executor(self._sessions.pool, call, *arguments)
