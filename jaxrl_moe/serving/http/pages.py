"""What stands before a web page: its own files from memory, requests under its own names alone, and nothing
in it that did not come from its server."""
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Response

from jaxrl_moe.paths import shortened
from jaxrl_moe.serving.http.errors import JsonAnswer, Refusal, error_body
from jaxrl_moe.serving.http.names import header_values, is_own_name, wrong_name

SHARED = pathlib.Path(__file__).parent.parent / "static"
READING = ("GET", "HEAD")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PAGE = "index.html"
_POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
           "form-action 'none'; frame-ancestors 'none'; ")
_OWN = "img-src 'self'"
_MADE = "img-src 'self' data:; frame-src 'self'"  # of pages that show what a model made
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-dns-prefetch-control": "off",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store"
}


def page_files(folder: pathlib.Path) -> Mapping[str, bytes]:
    """{name: bytes} of a page's files: those of its folder, and those that all pages share."""
    paths = [path for each in (SHARED, folder) for path in sorted(each.iterdir()) if path.suffix in _TYPES]
    files = {path.name: path.read_bytes() for path in paths}
    assert len(files) == len(paths), "a file of the page has the name of a shared one"
    return files


def add_files(app: FastAPI, files: Mapping[str, bytes]) -> None:
    """Serves them: the page itself at /, all under /static."""
    def answer(name: str) -> Response:
        if name not in files:
            raise Refusal(404, "There is no such file.")
        return Response(files[name], media_type=_TYPES[pathlib.PurePath(name).suffix])

    @app.get("/", include_in_schema=False)
    async def page():
        return answer(_PAGE)

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str):
        return answer(name)


class PageGuard:
    """ASGI middleware. A page of another site whose name was made to point here (DNS rebinding) has that name
    in its requests' Host, and is refused; what changes something must come from this page, as its Origin
    says. An answer that has a Content-Security-Policy of its own keeps it, and may be framed as that says.

    Args:
      app: what stands behind.
      methods: that are answered.
      public_url: the address under which browsers reach it, through a server that speaks TLS; empty: any name
        of this machine.
      frames: whether the page shows others of its own server in frames, and pictures as data.
    """

    def __init__(self, app: Any, *, methods: Sequence[str] = READING, public_url: str = "",
                 frames: bool = False):
        self._app = app
        self._methods = methods
        self._public = urllib.parse.urlsplit(public_url).netloc.lower().removesuffix(":443")
        self._scheme = "https" if public_url else "http"
        headers = _HEADERS | {"content-security-policy": _POLICY + (_MADE if frames else _OWN)}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Any, receive: Any, send: Any):
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def guarded(message: Any):
            if message["type"] == "http.response.start":
                message = {**message, "headers": self._guarded(message["headers"])}
            await send(message)

        refusal = self._refused(scope)
        await (refusal or self._app)(scope, receive, guarded)

    def _refused(self, scope: Any) -> JsonAnswer | None:
        if scope["method"] not in self._methods:
            allowed = ", ".join(self._methods)
            return JsonAnswer(error_body(405, f"Only {allowed} are answered here."), 405,
                              headers={"Allow": allowed})
        hosts = header_values(scope, b"host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return JsonAnswer(error_body(403, self._wrong_host(hosts)), 403)
        origins = header_values(scope, b"origin")
        if scope["method"] not in READING and origins != [f"{self._scheme}://{hosts[0]}"]:
            return JsonAnswer(error_body(403, f"The request's Origin is {shortened(', '.join(origins))}; it "
                                         "must come from this page."), 403)
        return None

    def _is_own(self, host: str) -> bool:
        return host == self._public if self._public else is_own_name(host)

    def _wrong_host(self, hosts: list[str]) -> str:
        if not self._public:
            return wrong_name(hosts, "page")
        given = shortened(", ".join(hosts))
        return f"The Host header is {given}; this page is at {self._scheme}://{self._public}."

    def _guarded(self, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """An answer's headers with those of the page. X-Frame-Options knows no policy of the answer's own."""
        own = any(name.lower() == b"content-security-policy" for name, _ in headers)
        left_out = (b"content-security-policy", b"x-frame-options") if own else ()
        return [*headers, *(each for each in self._headers if each[0] not in left_out)]
