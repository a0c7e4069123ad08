"""Calls of a Java process in py4j's text protocol, over one connection with time-outs. A call is made once,
and never again on its own, so that no action is taken twice."""
import socket
from typing import NamedTuple

ANSWER = "!y"  # how the answer of a call that did not fail begins


class GatewayError(Exception):
    """A call failed; the message says how."""


class JavaFailure(GatewayError):
    """The process is well, and what was called threw an exception."""


class Reference(NamedTuple):
    """An object of the process, which keeps it until it is told to forget it."""
    name: str


Value = str | bool | int | float | None | Reference


class Gateway:
    """A connection to a py4j.GatewayServer on this machine. One thread uses it at a time.

    Args:
      port, token: as the server says them.
      timeout: seconds that a call may take.

    Raises:
      OSError: the server cannot be reached.
      GatewayError: it does not take the token.
    """

    def __init__(self, port: int, token: str, timeout: float):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("r", encoding="utf-8", newline="\n")
        self._ask("A", token)

    def make(self, kind: str, *arguments: Value) -> Reference:
        """A new object of a class."""
        return self._checked(self._ask("i", kind, *map(_part, arguments), "e"))

    def call(self, target: Reference, method: str, *arguments: Value) -> Value:
        """Calls a method.

        Raises:
          JavaFailure: it threw an exception.
          GatewayError, OSError: the process died, or did not answer in time (TimeoutError).
        """
        return self._ask("c", target.name, method, *map(_part, arguments), "e")

    def texts(self, target: Reference, method: str) -> list[str]:
        """Calls a method that returns a list of texts without line ends."""
        items = self._checked(self.call(target, method))
        joined = self.call(static("java.lang.String"), "join", "\n", items)
        self._ask("m", "d", items.name, "e")
        return str(joined).split("\n") if joined else []

    def close(self) -> None:
        self._answers.close()
        self._socket.close()

    def _ask(self, *lines: str) -> Value:
        request = "".join(f"{line}\n" for line in lines)
        self._socket.sendall(request.encode("utf-8", "replace"))
        answer = self._answers.readline()
        if not answer.endswith("\n"):
            raise GatewayError("it has closed the connection")
        answer = answer[:-1]
        if not answer.startswith(ANSWER):
            raise JavaFailure(self._reason(answer.removeprefix("!x")))
        return _value(answer.removeprefix(ANSWER))

    def _reason(self, part: str) -> str:
        """What an exception says, in one line."""
        thrown = _value(part) if part else None
        if isinstance(thrown, Reference):
            said = self.call(thrown, "toString")
            self._ask("m", "d", thrown.name, "e")
            thrown = said
        return str(thrown or "it gave no reason").strip().splitlines()[0]

    def _checked(self, value: Value) -> Reference:
        if not isinstance(value, Reference):
            raise GatewayError(f"it answered {value!r} where an object is needed")
        return value


def static(kind: str) -> Reference:
    """The target of a class's own methods."""
    return Reference(f"z:{kind}")


def _part(value: Value) -> str:
    """An argument of a call: a letter of its type, and the value."""
    if value is None:
        return "n"
    if isinstance(value, Reference):
        return f"r{value.name}"
    if isinstance(value, str):
        return "s" + value.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")
    letter = {bool: "b", int: "i", float: "d"}[type(value)]
    return f"{letter}{value}"


def _value(part: str) -> Value:
    """The value of an answer."""
    letter = part[:1]
    text = part[1:]
    if letter in ("s", "b", "i", "d"):
        return {"s": _unescaped, "b": "true".__eq__, "i": int, "d": float}[letter](text)
    if letter in ("r", "l", "t"):  # an object, a list, an array
        return Reference(text)
    if letter in ("v", "n", ""):  # nothing, or null
        return None
    raise GatewayError(f"it answered with a value of an unknown kind {letter!r}")


def _unescaped(text: str) -> str:
    pieces = text.split("\\\\")
    return "\\".join(piece.replace("\\n", "\n").replace("\\r", "\r") for piece in pieces)
