"""Bodies of requests: read, counted and parsed so that a large one keeps nobody else waiting."""
import asyncio
import email.message
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.requests import ClientDisconnect

from jaxrl_moe.outside import OutsideError, parse
from jaxrl_moe.serving.http.errors import Refusal

MOST_BYTES = 16 * 2**20
LARGE = 2**18        # bytes from which a body is counted, and parsed in a thread
LARGE_AT_ONCE = 4    # that are in memory; others wait at their senders
SECONDS = 60.0       # in which a body must be there, or the rest of a large one from its turn on
# What a large body may hold, so that Python's parser, which lets no other thread run, ends soon.
MOST_STRINGS = 2**18
MOST_CONTAINERS = 2**17
MOST_VALUES = 2**21
GONE = 499           # nginx's status for a client that did not wait; only logs see it


class Strict(BaseModel):
    """A body's object: no field that is not known, no value of another type, no NaN."""
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def add_json_bodies(app: FastAPI) -> None:
    """Lets the routes that are added from now on read their bodies so."""
    app.router.route_class = JsonRoute
    app.state.turns_of_large_bodies = asyncio.Semaphore(LARGE_AT_ONCE)


class JsonRoute(APIRoute):
    """A route whose body is JSON as jaxrl_moe.outside reads it, with errors that say where it is none."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if self.body_field is None:
                return await handler(request)
            _check_type(request.headers.get("content-type", ""))
            try:
                value = await _read(request)
            except ClientDisconnect:
                return Response(status_code=GONE)
            return await handler(_Parsed(request, value))
        return handle


class _Parsed(Request):
    """A request whose body was read before."""

    def __init__(self, request: Request, value: Any):
        super().__init__(request.scope, request.receive)
        self._value = value

    async def body(self) -> bytes:
        return b"{}"  # whatever is not empty, so that json() is asked for

    async def json(self) -> Any:
        value = self._value
        self._value = None
        return value


def _check_type(header: str) -> None:
    """Raises Refusal unless it says JSON in UTF-8."""
    message = email.message.Message()
    message["content-type"] = header
    kind = message.get_content_type()
    charset = message.get_content_charset("utf-8")
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        shown = f"the request has {header[:80]!r}" if header else "the request has none"
        raise Refusal(415, f"The Content-Type must be application/json; {shown}.")
    if charset.lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Refusal(415, f"The body must be UTF-8, not {charset[:80]!r}.")


async def whole_body(request: Request) -> bytes:
    """A body as it came, of at most MOST_BYTES; raises Refusal, or ClientDisconnect."""
    data = bytearray()
    await _fill(data, request.stream(), MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise _too_long()
    return bytes(data)


def _too_long() -> Refusal:
    return Refusal(413, f"The body has more than {MOST_BYTES} bytes.", headers={"Connection": "close"})


async def _read(request: Request) -> Any:
    """The body's JSON; raises Refusal, or ClientDisconnect."""
    chunks = request.stream()
    data = bytearray()
    if await _fill(data, chunks, LARGE):
        return _parsed(bytes(data))
    async with request.app.state.turns_of_large_bodies:
        await _fill(data, chunks, MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise _too_long()
        return await asyncio.to_thread(_counted, bytes(data))


async def _fill(data: bytearray, chunks: Any, enough: int) -> bool:
    """Reads until there are `enough` bytes or no more to come; whether it is the latter."""
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in chunks:
                data += chunk
                if len(data) >= enough:
                    return False
    except TimeoutError as error:
        raise Refusal(408, f"The body was not there within {SECONDS:g} seconds; {len(data)} bytes of it have "
                           "come.", headers={"Connection": "close"}) from error
    return True


def _counted(data: bytes) -> Any:
    """The JSON of a body that does not hold too much."""
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    strings = plain.count(b'"') // 2
    outside = b"".join(plain.split(b'"')[::2]) if strings <= MOST_STRINGS else b""
    containers = outside.count(b"[") + outside.count(b"{")
    counts = ((strings, MOST_STRINGS, "strings"), (outside.count(b","), MOST_VALUES, "values"),
              (containers, MOST_CONTAINERS, "lists and objects"))
    for count, most, what in counts:
        if count > most:
            raise Refusal(413, f"The body holds about {count} {what}; at most {most} are read.")
    return _parsed(data)


def _parsed(data: bytes) -> Any:
    try:
        return parse(data.decode(), "the body")
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the body is no UTF-8 text: {error.reason} at byte {error.start}.") from error
    except OutsideError as error:
        raise Refusal(400, str(error)) from error
