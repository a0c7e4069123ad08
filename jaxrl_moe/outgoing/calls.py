"""Calls of servers that episodes need, such as environments, policies and judges: JSON over HTTP, with a
deadline for the whole answer. Each failure is told by what it means for the episode."""
import asyncio
import json
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.outgoing.urls import Target
from jaxrl_moe.outside import OutsideError, parse
from jaxrl_moe.spelling import cut, escaped
from jaxrl_moe.types import EnvError, Status, UserError

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 3.0   # that a connection is kept: servers drop one after five, and then it must not be used
KNOCK_SECONDS = 0.5  # between two tries to reach a server that is waited for
MOST_BYTES = 2**24   # of an answer
LARGE = 2**16        # bytes from which an answer is parsed in a thread, as the loop has others to serve
KEY_CODES = (401, 403)
LATER_CODES = (408, 425, 429)  # that another try may not meet
SHORTEST_KEY = 8     # characters from which a key is a secret, and no word that messages may have


class Unreached(EnvError):
    """There was no connection, and nothing was sent."""


class StatusError(EnvError):
    """A server answered with another status than 200; `code` is it, and `body` what it sent."""

    def __init__(self, status: Status, code: int, message: str, body: bytes = b""):
        super().__init__(status, message)
        self.code = code
        self.body = body

    @property
    def refuses_key(self) -> bool:
        """Whether the server lets nobody in with this key."""
        return self.code in KEY_CODES

    @property
    def lasts(self) -> bool:
        """Whether the same call would meet the same answer."""
        return 400 <= self.code < 500 and self.code not in LATER_CODES


class Calls:
    """A pool of connections of one event loop. No redirect is followed, and no proxy of the surroundings is
    asked.

    Args:
      timeout: seconds that a call may take.
      patience: seconds that a server is waited for from when it could not be reached, by all calls together.
        After these, calls fail at once until one reaches it again.
      api_key: sent to the servers; empty: none. No error has it, even where a server tells it.
      header: that holds the key; empty: "Authorization: Bearer KEY".
      headers: that all calls have too.
      target: the only server that is called, at the addresses that were looked up before, whatever its name
        leads to by then; None: any.
      most_bytes: of an answer; None: MOST_BYTES.
    """

    def __init__(self, timeout: float, patience: float = 0.0, api_key: str = "", header: str = "",
                 headers: Mapping[str, str] = {}, target: Target | None = None,
                 most_bytes: int | None = None):
        httpx = httpx_library("Servers of environments, policies and judges are called")
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
        if api_key:
            headers |= {header: api_key} if header else {"Authorization": f"Bearer {api_key}"}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None,
                              keepalive_expiry=IDLE_SECONDS)
        self._timeout = timeout
        self._patience = patience
        self._key = api_key
        self._target = target
        self._most_bytes = MOST_BYTES if most_bytes is None else most_bytes
        self._lost: dict[str, float] = {}  # since when a server cannot be reached; its loop's own
        # nothing of the surroundings: a proxy has no business between a run and its environments. The
        # certificates that TLS is checked by take long to read, and a target without TLS needs none.
        self._http = httpx.AsyncClient(
            headers=headers, limits=limits, trust_env=False, verify=target is None or target.by_tls,
            timeout=httpx.Timeout(None, connect=min(CONNECT_SECONDS, timeout)))
        self._errors = httpx

    async def ask(self, method: str, url: str, body: Mapping[str, Any] | None, failed: Status) -> Any:
        """Makes a call and returns the JSON that it is answered with.

        Args:
          method: "GET" or "POST".
          url: of the server, with the path.
          body: a JSON object; None: there is none.
          failed: what it is where the server refuses or fails.

        Raises:
          StatusError: it has another status than 200.
          EnvError: no good answer came.
        """
        status, data = await self._patient(method, url, body, self._patience)
        if len(data) < LARGE:
            return self._value(status, data, url, failed)
        return await asyncio.to_thread(self._value, status, data, url, failed)

    async def end(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    def _value(self, status: int, data: bytes, url: str, failed: Status) -> Any:
        """The JSON of an answer; raises EnvError for what is none, or tells of an error."""
        if status != 200:
            raise StatusError(failed, status, f"{url} answered with status {status}{self._shown(data)}",
                              data)
        try:
            value = parse(data, f"the answer of {url}")
        except OutsideError as error:
            raise EnvError(Status.MALFORMED, f"{str(error).rstrip('.')}{self._shown(data)}") from error
        if isinstance(value, dict) and value.get("error") is not None:
            said = self._shown(str(value["error"]).encode(errors="replace"))
            raise EnvError(failed, f"{url} answered with an error{said}")
        return value

    def _shown(self, data: bytes) -> str:
        """What came, for the end of a message; without the key, if it is told there."""
        text = data.decode(errors="replace").strip()
        text = text.replace(self._key, "[the API key]") if len(self._key) >= SHORTEST_KEY else text
        return f": {cut(escaped(text))}" if text else "."

    async def _patient(self, method: str, url: str, body: Mapping[str, Any] | None,
                       patience: float) -> tuple[int, bytes]:
        """(status, bytes of the answer), of a server that is waited for. Only a call of which nothing was
        sent is made again: what a server did before it broke the connection is not known."""
        host = urllib.parse.urlsplit(url).netloc
        while True:
            try:
                answer = await self._asked(method, url, body)
            except Unreached:
                now = time.monotonic()
                if not patience or now - self._lost.setdefault(host, now) > patience:
                    raise
                await asyncio.sleep(KNOCK_SECONDS)
            else:
                self._lost.pop(host, None)
                return answer

    async def _asked(self, method: str, url: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        content = None if body is None else json.dumps(body).encode()
        try:
            async with asyncio.timeout(self._timeout):
                return await self._answer(method, url, content)
        except TimeoutError as error:
            raise EnvError(Status.TIMED_OUT, f"{url} did not answer within {self._timeout:g} "
                           "seconds.") from error
        except (self._errors.ConnectError, self._errors.ConnectTimeout) as error:
            raise Unreached(Status.UNREACHABLE, f"{url} cannot be reached: {_said(error)}.") from error
        except self._errors.TransportError as error:
            raise EnvError(Status.UNREACHABLE, f"{url} broke the connection: {_said(error)}.") from error
        except self._errors.RequestError as error:
            raise EnvError(Status.MALFORMED, f"{url} cannot be understood: {_said(error)}.") from error

    async def _answer(self, method: str, url: str, content: bytes | None) -> tuple[int, bytes]:
        *others, last = self._target.routes(url) if self._target else ({"url": url},)
        for route in others:
            try:
                return await self._answered(method, url, content, route)
            except (self._errors.ConnectError, self._errors.ConnectTimeout):
                continue  # a name may have an address at which nobody listens, as localhost has two
        return await self._answered(method, url, content, last)

    async def _answered(self, method: str, url: str, content: bytes | None,
                        route: Mapping[str, Any]) -> tuple[int, bytes]:
        async with self._http.stream(method, content=content, **route) as answer:
            data = bytearray()
            async for chunk in answer.aiter_bytes():
                data += chunk
                if len(data) > self._most_bytes:
                    raise EnvError(Status.MALFORMED, f"{url} answered with more than {self._most_bytes} "
                                   "bytes.")
            return answer.status_code, bytes(data)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}{f' ({error})' if str(error) else ''}"


def httpx_library(use: str) -> Any:
    """httpx, imported only where it is needed; `use` says for what, to begin the message that it is absent
    with."""
    try:
        import httpx
    except ImportError as error:
        raise UserError(f"{use} by httpx, which is not installed. It comes with the extra `agents`: pip "
                        'install -e ".[agents]".') from error
    return httpx
