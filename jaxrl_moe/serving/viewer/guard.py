"""What stands before the page: only reading, only under this machine's own names, and nothing in the page
that did not come from this server."""
from typing import Any

from jaxrl_moe.hosts.addresses import is_loopback
from jaxrl_moe.paths import shortened
from jaxrl_moe.serving.http.errors import JsonAnswer, error_body

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                               "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store"
}
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]


class PageGuard:
    """ASGI middleware. A page of another site whose name was made to point here (DNS rebinding) has that name
    in its requests' Host, and is refused.

    Args:
      app: what stands behind.
    """

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any):
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def guarded(message: Any):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_RAW_HEADERS]}
            await send(message)

        refusal = _refused(scope)
        await (refusal or self._app)(scope, receive, guarded)


def _refused(scope: Any) -> JsonAnswer | None:
    if scope["method"] not in ("GET", "HEAD"):
        return JsonAnswer(error_body(405, "Nothing can be changed here: only GET is answered."), 405,
                          headers={"Allow": "GET, HEAD"})
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1 or not is_loopback(_name(hosts[0])):
        given = shortened(", ".join(hosts))
        return JsonAnswer(error_body(403, f"The Host header is {given}; this page is only for this machine. "
                                     "Open it as http://127.0.0.1 or http://localhost, with its port."), 403)
    return None


def _name(host: str) -> str:
    """A Host header without its port, and without the brackets of an IPv6 address."""
    name, colon, port = host.rpartition(":")
    name = name if colon and port.isascii() and port.isdigit() else host
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name.lower()
