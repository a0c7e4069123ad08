"""JSON over HTTP to one server: pooled connections, a deadline for the whole answer, and three kinds of
failure."""
import json
import random
import time
import urllib.parse
from typing import Any

from bridges.errors import BridgeError
from jaxrl_moe.hosts.addresses import is_loopback

CONNECT_SECONDS = 10.0
# a server that is full is asked again after 0.5, 1, 2, ... seconds
BUSY_RETRIES = 6
BUSY_SECONDS = 0.5
MESSAGE = 2000  # characters of a server's complaint that are passed on
IDLE_SECONDS = 3.0  # servers drop connections that were idle for 5


class EngineError(BridgeError):
    """A server that cannot do what the run needs, or none left; the message says how to mend it."""


class Refused(EngineError):
    """The server understood a request and rejected it (HTTP 4xx): it would do so again, and so would
    another."""


class Unavailable(Exception):
    """A server that is gone, hangs, fails or answers what makes no sense: another may do better. Never shown
    to users as it is."""


class Http:
    """One server.

    Args:
      url: such as http://host:30000.
      api_key: sent as a bearer token, unless empty.
      timeout: seconds until a whole answer must be there; each call may set its own.
      connections: that are open at once.
    """

    def __init__(self, url: str, *, api_key: str = "", timeout: float = 600.0, connections: int = 64):
        httpx = _httpx()
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._errors = (httpx.HTTPError, httpx.StreamError)
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections,
                                keepalive_expiry=IDLE_SECONDS),
            trust_env=not is_local(url),  # no proxy stands between this machine and itself
            verify=url.startswith("https"))  # reading the certificates takes a tenth of a second

    def get(self, path: str, *, timeout: float | None = None) -> Any:
        return self._read(*self._call("GET", path, None, timeout), path)

    def post(self, path: str, body: Any = None, *, timeout: float | None = None,
             repeatable: bool = False) -> Any:
        """The parsed JSON of the answer, or None where it is plain text.

        Asked again is what the server did not take up (429, 503), and a request that may be done twice, once.

        Raises:
          Refused: HTTP 4xx.
          Unavailable: no answer, none in time, HTTP 5xx, or an answer that is cut short or no JSON.
        """
        for attempt in range(BUSY_RETRIES + 1):
            try:
                status, kind, data = self._call("POST", path, body, timeout)
            except Unavailable:
                if not repeatable or attempt:
                    raise
                continue
            if status not in (429, 503) or attempt == BUSY_RETRIES:
                return self._read(status, kind, data, path)
            time.sleep(BUSY_SECONDS * 2**attempt * random.uniform(0.8, 1.2))

    def is_up(self, path: str = "/health", timeout: float = 5.0) -> bool:
        """Whether the server says that it is well."""
        try:
            return self._call("GET", path, None, timeout)[0] == 200
        except Unavailable:
            return False

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, path: str, body: Any, timeout: float):
        """(status, content type, bytes). An answer that drips is cut off at the deadline too."""
        timeout = timeout or self.timeout
        deadline = time.monotonic() + timeout
        data = bytearray()
        try:
            with self._client.stream(method, path, json=body, timeout=_limits(timeout)) as response:
                for piece in response.iter_bytes():
                    data += piece
                    if time.monotonic() > deadline:
                        raise Unavailable(f"{self.url}{path} had not answered in full after {timeout:g} "
                                          "seconds")
                return response.status_code, response.headers.get("content-type", ""), bytes(data)
        except self._errors as error:
            raise Unavailable(f"{self.url}{path}: {type(error).__name__} {error}".rstrip()) from error

    def _read(self, status: int, kind: str, data: bytes, path: str):
        if status >= 400:
            text = f"{self.url}{path} answered {status}: {_message(data)}"
            raise Unavailable(text) if status >= 500 or status in (408, 429) else Refused(text)
        if "json" not in kind:
            return None
        try:
            return json.loads(data)
        except ValueError as error:
            raise Unavailable(f"{self.url}{path} answered what is no JSON ({error}): "
                              f"{data[:80]!r}") from error


def is_local(url: str) -> bool:
    """Whether the server is on this machine."""
    return is_loopback(urllib.parse.urlsplit(url).hostname or "")


def _limits(timeout: float):
    return _httpx().Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))


def _message(data: bytes) -> str:
    """What the server says is wrong, out of the shapes that servers say it in."""
    try:
        message = json.loads(data)
        for key in ("error", "message", "detail"):
            message = message.get(key, message) if isinstance(message, dict) else message
    except ValueError:
        message = data.decode(errors="replace")
    return str(message)[:MESSAGE] or "nothing"


def _httpx():
    try:
        import httpx
    except ImportError as error:
        raise EngineError("Rollouts on servers need httpx, which is not installed: pip install "
                          "'jaxrl-moe[servers]'.") from error
    return httpx
