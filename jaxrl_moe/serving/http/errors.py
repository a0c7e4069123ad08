"""Refusals and failures as answers: in the shape that OpenAI's clients read, {"error": {message, type, param,
code}}, or in that of another protocol."""
import json
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from jaxrl_moe.spelling import cut
from jaxrl_moe.types import UserError

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error"
}
SHOWN = 4        # faults of a body that are spelled out
LONGEST = 2000   # characters of a message, which may quote what the client sent


class Refusal(Exception):
    """An answer other than 200, with its headers."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None,
                 headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = headers

    @property
    def body(self) -> dict:
        """It in OpenAI's shape."""
        return error_body(self.status, str(self), self.param, self.code)


class JsonAnswer(Response):
    """JSON in ASCII, so that no text of a client or of a model fails to encode."""
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode()


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict:
    message = cut(message, LONGEST)
    param = param and cut(param)
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class ErrorShape(Protocol):
    """Makes the answer of an error."""

    def __call__(self, status: int, message: str, param: str | None = None, code: str | None = None,
                 headers: Mapping[str, str] | None = None) -> Response: ...


def openai_error(status: int, message: str, param: str | None = None, code: str | None = None,
                 headers: Mapping[str, str] | None = None) -> JsonAnswer:
    """An error in the shape of OpenAI."""
    return JsonAnswer(error_body(status, message, param, code), status, headers=headers)


def add_handlers(app: FastAPI, shape: ErrorShape = openai_error) -> None:
    """Makes every error an answer of that shape; what nobody expected is logged, and says nothing of the
    inside."""
    @app.exception_handler(Refusal)
    async def refusal(_: Request, error: Refusal):
        return shape(error.status, str(error), error.param, error.code, error.headers)

    @app.exception_handler(UserError)
    async def user_error(_: Request, error: UserError):
        return shape(400, str(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError):
        param, message = describe(error.errors())
        return shape(400, message, param)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException):
        return shape(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception):
        logging.getLogger(__name__).error("A request failed", exc_info=error)
        return shape(500, "The server met an error of its own; its log has more.")


def describe(faults: Any) -> tuple[str | None, str]:
    """(name of the first field at fault, all in one line) of pydantic's errors."""
    lines = []
    first = None
    for fault in faults:
        path = [str(key) for key in fault["loc"] if key not in ("body", "path", "query")]
        first = first or (path[0] if path else None)
        unknown = fault["type"] == "extra_forbidden"
        what = ("unknown field; this server ignores none" if unknown
                else cut(fault["msg"].removeprefix("Value error, ")))
        lines.append(f"{cut('.'.join(path)) or 'body'}: {what}")
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return first, "; ".join(lines[:SHOWN]) + more
