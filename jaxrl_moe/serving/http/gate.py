"""What stands before the application: the API key, the query, and a limit on bodies. Nothing of a body is
read before these."""
import hmac
import re
import urllib.parse
from collections.abc import Sequence
from typing import Any

from jaxrl_moe.paths import shortened
from jaxrl_moe.serving.http.bodies import MOST_BYTES
from jaxrl_moe.serving.http.errors import ErrorShape, openai_error
from jaxrl_moe.serving.http.names import header_values, is_own_name, wrong_name

QUERY = ("api-version",)    # which clients for Azure add to every request, and nothing depends on
OPEN_PATHS = ("/health",)  # for probes, which have no key


class Gate:
    """ASGI middleware.

    Args:
      app: what stands behind.
      api_key: what `Authorization: Bearer ...` must hold; empty: no key is asked for.
      query: parameters of the query that something reads, or that change nothing.
      open_paths: that need no key.
      secret_paths: others that need none, as what they name is a secret itself.
      own_names: whether without a key only requests to this machine's own names are answered: any page that
        a browser here opens may send others.
      shape: of the refusals.
    """

    def __init__(self, app: Any, api_key: str = "", *, query: Sequence[str] = QUERY,
                 open_paths: Sequence[str] = OPEN_PATHS, secret_paths: re.Pattern | None = None,
                 own_names: bool = False, shape: ErrorShape = openai_error):
        self._app = app
        self._query = query
        self._open_paths = open_paths
        self._secret_paths = secret_paths
        self._shape = shape
        self._own_names = own_names and not api_key
        self._key = f"Bearer {api_key}".encode() if api_key else b""

    async def __call__(self, scope: Any, receive: Any, send: Any):
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        if self._asks(scope["path"]) and not hmac.compare_digest(headers.get(b"authorization", b""),
                                                                 self._key):
            refusal = self._shape(401, "The API key is missing or wrong: send it as "
                                  "Authorization: Bearer KEY.", code="invalid_api_key",
                                  headers={"WWW-Authenticate": "Bearer"})
            return await refusal(scope, receive, send)
        hosts = header_values(scope, b"host") if self._own_names else []
        if self._own_names and not (len(hosts) == 1 and is_own_name(hosts[0])):
            refusal = self._shape(403, wrong_name(hosts, "server"))
            return await refusal(scope, receive, send)
        unknown = self._unknown(scope["query_string"].decode("latin-1"))
        if unknown:
            refusal = self._shape(400, f"Unknown query parameter {shortened(unknown[0])}: this server "
                                  "ignores none, and reads fields of the body alone.", unknown[0])
            return await refusal(scope, receive, send)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > MOST_BYTES:
            refusal = self._shape(413, f"The body has {int(length)} bytes; at most {MOST_BYTES} are read.",
                                  headers={"Connection": "close"})
            return await refusal(scope, receive, send)
        await self._app(scope, receive, send)

    def _asks(self, path: str) -> bool:
        """Whether a key is needed."""
        secret = self._secret_paths is not None and self._secret_paths.fullmatch(path)
        return bool(self._key) and path not in self._open_paths and not secret

    def _unknown(self, query: str) -> list[str]:
        """Names of the query's parameters that nothing reads."""
        given = urllib.parse.parse_qsl(query, keep_blank_values=True)
        return [name for name, _ in given if name not in self._query]
