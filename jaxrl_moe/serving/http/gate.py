"""What stands before the application: the API key, and a limit on bodies. Nothing of a body is read before
both."""
import hmac
from typing import Any

from jaxrl_moe.serving.http.bodies import MOST_BYTES
from jaxrl_moe.serving.http.errors import JsonAnswer, error_body

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
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > MOST_BYTES:
            refusal = error_body(413, f"The body has {int(length)} bytes; at most {MOST_BYTES} are read.")
            return await JsonAnswer(refusal, 413, headers={"Connection": "close"})(scope, receive, send)
        await self._app(scope, receive, send)

