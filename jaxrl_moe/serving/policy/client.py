"""Turns of a policy at a URL that a client has named. No key of this server's own goes along."""
import asyncio
import re
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.outgoing.calls import Calls, StatusError
from jaxrl_moe.outgoing.urls import Target
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.serving.policy.reading import Written, written
from jaxrl_moe.types import EnvError, Status

CALL = "/chat/completions"
BUSY = (429, 503)  # statuses of a server that has drawn nothing, and may take the request later
BUSY_SECONDS = 1.0
PATIENCE = 10.0    # seconds that a policy's server which cannot be reached is waited for
MOST_BYTES = 2**22  # of an answer
ENOUGH = (400, 413, 422)  # statuses of a server that takes no such request, as of a conversation too long
_VERSION = re.compile(r"v[0-9]+[a-z0-9]*")


class PolicyRefused(EnvError):
    """The policy's server does not take the request, and would not take it again: the conversation has become
    too long for it, or the request is wrong."""
    final = True


def chat_url(base_url: str) -> str:
    """The URL of chat completions under a base_url as clients write it: with the path of a version, such as
    /v1, or without, as the server's bare address. One that is it already stays so."""
    base_url = base_url.strip().rstrip("/")
    if base_url.endswith(CALL):
        return base_url
    segments = urllib.parse.urlsplit(base_url).path.split("/")
    versioned = any(map(_VERSION.fullmatch, segments))
    return base_url + "/v1" * (not versioned) + CALL


class Policy:
    """A policy's server, for one event loop; an asynchronous context manager.

    Args:
      target: its chat completions.
      api_key: of that server, which the client gave; empty: none.
      sampling: what goes into each request beside messages and tools, the model included.
      timeout: seconds that a turn may take.
    """

    def __init__(self, target: Target, api_key: str, sampling: Mapping[str, Any], timeout: float):
        self._url = target.url
        self._sampling = dict(sampling)
        self._timeout = timeout
        self._calls = Calls(timeout, min(PATIENCE, timeout), api_key, target=target, most_bytes=MOST_BYTES)

    async def __aenter__(self) -> "Policy":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._calls.end()

    async def ask(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = (),
                  **sampling: Any) -> Written:
        """The next turn of a conversation.

        Args:
          messages: up to here.
          tools: functions that may be called.
          sampling: further wishes, for this turn.

        Raises:
          PolicyRefused: the server takes no such request.
          EnvError: no turn came, or none that can be understood.
        """
        offered = {"tools": list(tools)} if tools else {}
        body = {**self._sampling, **sampling, "messages": list(messages), **offered}
        answer = await self._patient(body)
        try:
            return written(answer, f"The answer of {self._url}", bool(tools))
        except OutsideError as error:
            raise EnvError(Status.MALFORMED, str(error)) from error

    async def _patient(self, body: Mapping[str, Any]) -> Any:
        """The answer of a server that is asked again while it is busy, for as long as a turn may take."""
        end = time.monotonic() + self._timeout
        while True:
            try:
                return await self._calls.ask("POST", self._url, body, Status.STEP_FAILED)
            except StatusError as error:
                if error.code in BUSY and time.monotonic() + BUSY_SECONDS < end:
                    await asyncio.sleep(BUSY_SECONDS)
                    continue
                if error.code in ENOUGH:
                    raise PolicyRefused(error.status, str(error)) from error
                raise
