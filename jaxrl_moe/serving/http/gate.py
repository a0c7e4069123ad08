"""What stands before the application: the API key, the query, and a limit on bodies. Nothing of a body is
read before these."""
import hmac
import urllib.parse
from typing import Any

from jaxrl_moe.paths import shortened
from jaxrl_moe.serving.http.bodies import MOST_BYTES
from jaxrl_moe.serving.http.errors import JsonAnswer, error_body

QUERY = ("api-version",)    # which clients for Azure add to every request, and nothing depends on
OPEN_PATHS = ("/health",)  # for probes, which have no key


class Gate:
    """ASGI middleware.

    Args:
      app: what stands behind.
      api_key: what `Authorization: Bearer ...` must hold; empty: no key is asked for.
    """

    def __init__(self, app: Any, api_key: str = ""):
        self._app = app
        self._key = f"Bearer {api_key}".encode() if api_key else b""

    async def __call__(self, scope: Any, receive: Any, send: Any):
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        if self._key and scope["path"] not in OPEN_PATHS and not hmac.compare_digest(
                headers.get(b"authorization", b""), self._key):
            refusal = error_body(401, "The API key is missing or wrong: send it as "
                                 "Authorization: Bearer KEY.", code="invalid_api_key")
            return await JsonAnswer(refusal, 401, headers={"WWW-Authenticate": "Bearer"})(
                scope, receive, send)
        unknown = _unknown(scope["query_string"].decode("latin-1"))
        if unknown:
            refusal = error_body(400, f"Unknown query parameter {shortened(unknown[0])}: this server ignores "
                                 "none, and reads fields of the body alone.", unknown[0])
            return await JsonAnswer(refusal, 400)(scope, receive, send)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > MOST_BYTES:
            refusal = error_body(413, f"The body has {int(length)} bytes; at most {MOST_BYTES} are read.")
            return await JsonAnswer(refusal, 413, headers={"Connection": "close"})(scope, receive, send)
        await self._app(scope, receive, send)


def _unknown(query: str) -> list[str]:
    """Names of the query's parameters that nothing reads."""
    return [name for name, _ in urllib.parse.parse_qsl(query, keep_blank_values=True) if name not in QUERY]
