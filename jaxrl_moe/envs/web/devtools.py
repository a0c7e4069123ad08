"""Chromium's DevTools protocol over two pipes, as far as showing a page needs it."""
import json
import os
from typing import Any

from jaxrl_moe.outside import OutsideError, parse
from jaxrl_moe.spelling import cut

MOST_BYTES = 2**26  # of all that the browser says


class BrowserError(Exception):
    """The browser has ended, or does not do what it is told; the message goes on from "The browser"."""


class DevTools:
    """Commands and events. Whoever starts the browser ends it where it does not answer in time: then its
    pipes close.

    Args:
      reading, writing: file descriptors.
    """

    def __init__(self, reading: int, writing: int):
        self._reading = reading
        self._writing = writing
        self._buffer = b""
        self._bytes = 0
        self._number = 0
        self._events: set[str] = set()
        self._session = ""

    def attach(self) -> None:
        """Opens a tab, to which all further commands go."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command.

        Raises:
          BrowserError: it failed, or the browser has ended.
        """
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        self._write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        if "result" not in answer:
            raise BrowserError(f"refused {method}: {cut(str(answer.get('error')))}")
        return answer["result"]

    def forget(self, event: str) -> None:
        """What came of an event until now does not count."""
        self._events.discard(event)

    def wait(self, event: str) -> None:
        """Returns once an event has come. Raises BrowserError where the browser ends before."""
        while event not in self._events:
            self._note(self._next())

    def _note(self, message: dict[str, Any]) -> None:
        event = str(message.get("method", ""))
        if event in ("Inspector.targetCrashed", "Target.targetCrashed"):
            raise BrowserError("lost the page: its process crashed, or used up its memory")
        self._events.add(event)

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._writing, data):]
        except OSError as error:
            raise BrowserError("has ended") from error

    def _next(self) -> dict[str, Any]:
        pieces = [self._buffer]
        while b"\0" not in pieces[-1]:
            pieces.append(self._read())
        message, _, self._buffer = b"".join(pieces).partition(b"\0")
        try:
            parsed = parse(message, "a message of the browser")
        except OutsideError as error:
            raise BrowserError(f"said what cannot be read: {error}") from error
        if not isinstance(parsed, dict):
            raise BrowserError("said what is no message")
        return parsed

    def _read(self) -> bytes:
        try:
            piece = os.read(self._reading, 1 << 20)
        except OSError as error:
            raise BrowserError("has ended") from error
        self._bytes += len(piece)
        if not piece:
            raise BrowserError("has ended")
        if self._bytes > MOST_BYTES:
            raise BrowserError(f"said more than {MOST_BYTES} bytes")
        return piece
