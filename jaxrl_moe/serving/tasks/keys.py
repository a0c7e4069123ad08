"""The keys of a task app: some clients have one, some rotate through several."""
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.hosts.keys import key_of_file
from jaxrl_moe.serving.http.errors import openai_error

KEY = "ENVIRONMENT_API_KEY"
ALIASES = "ENVIRONMENT_API_KEY_ALIASES"
PREFIX = "sk_env_"    # what such keys begin with by convention, so that it tells nothing of a key
OPEN_PATHS = ("/",)
MOST_OFFERED = 32     # keys in a request


class TaskKeys:
    """Keys that open a server. They stand in no message.

    Args:
      keys: empty: nobody is let in.
    """

    def __init__(self, keys: Sequence[str]):
        self._digests = [_digest(key.encode()) for key in dict.fromkeys(keys)]
        self.prefix = PREFIX if keys and keys[0].startswith(PREFIX) else None

    def __bool__(self) -> bool:
        return bool(self._digests)

    def admit(self, offered: Sequence[bytes]) -> bool:
        """Whether one of the offered keys is one of these. All are compared with all, whatever comes of
        it."""
        admitted = False
        for each in offered[:MOST_OFFERED]:
            digest = _digest(each)
            for known in self._digests:
                admitted |= hmac.compare_digest(digest, known)
        return admitted


def keys_of(environment: Mapping[str, str], path: str = "") -> tuple[str, ...]:
    """The keys in ENVIRONMENT_API_KEY and, with commas between, in ENVIRONMENT_API_KEY_ALIASES, and the one
    that all servers of ours know.

    Args:
      environment: os.environ.
      path: of a file with the latter; see key_of_file.

    Raises:
      UserError: the file is empty.
    """
    named = [environment.get(KEY, ""), *environment.get(ALIASES, "").split(","), key_of_file(path)]
    return tuple(key for key in map(str.strip, named) if key)


def offered_keys(headers: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """The keys in X-API-Key, in X-API-Keys with commas between, and in Authorization: Bearer."""
    offered = []
    for name, value in headers:
        if name == b"x-api-key":
            offered.append(value)
        elif name == b"x-api-keys":
            offered += value.split(b",")
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            offered.append(value[7:])
    return [key for key in map(bytes.strip, offered) if key]


class KeyGate:
    """ASGI middleware that lets requests with a key through.

    Args:
      app: what stands behind.
      keys: without any, all are refused with 503.
    """

    def __init__(self, app: Any, keys: TaskKeys):
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            return await self._app(scope, receive, send)
        if not self._keys:
            refusal = openai_error(503, f"This server has no API key, and lets nobody in: set {KEY} and "
                                   "start it again.", code="no_api_key_configured")
            return await refusal(scope, receive, send)
        if not self._keys.admit(offered_keys(scope["headers"])):
            refusal = openai_error(401, "The API key is missing or wrong: send it as X-API-Key, or as "
                                   "Authorization: Bearer KEY.", code="invalid_api_key",
                                   headers={"WWW-Authenticate": "Bearer"})
            return await refusal(scope, receive, send)
        await self._app(scope, receive, send)


def _digest(key: bytes) -> bytes:
    """Of one length, so that a comparison's time tells nothing of a key's."""
    return hashlib.sha256(key).digest()
