"""How a worker is asked and answers: one line of JSON each way, over its first standard input and output.

Asked {"id": 3, "call": "step", "arguments": {...}} it answers {"id": 3, "result": {...}}, or {"id": 3,
"error": {"kind": "refused" or "failed", "message": "..."}}. What a package prints goes to standard error, and
it reads from nowhere.
"""
import json
import os
import sys
import traceback
from typing import Any, BinaryIO, Protocol

LONGEST = 2**24  # bytes of a line
_SHOWN = 800     # characters of a message


class Refused(Exception):
    """A setting or a row that cannot be; the message is for whoever wrote it."""


class PackageEpisode(Protocol):
    """One episode of a package. What it is told and tells beside what stands here is between it and our side
    of the package."""

    def reset(self) -> dict[str, Any]:
        """What is shown at first."""

    def step(self, **said: Any) -> dict[str, Any]:
        """What came of it."""

    def close(self) -> None: ...


class Package(Protocol):
    """A package, as it is set up once in a worker."""

    def begin(self, **settings: Any) -> dict[str, Any]:
        """Facts about it, by which our side goes on. Raises Refused for settings that cannot be."""

    def open(self, **chosen: Any) -> PackageEpisode:
        """Raises Refused for a row that cannot be."""


class Dispatch:
    """Answers calls by a package and its open episodes."""

    def __init__(self, package: Package):
        self._package = package
        self._episodes: dict[int, PackageEpisode] = {}

    def begin(self, **settings: Any) -> dict[str, Any]:
        return self._package.begin(**settings)

    def reset(self, episode: int, **chosen: Any) -> dict[str, Any]:
        self._episodes[episode] = opened = self._package.open(**chosen)
        return opened.reset()

    def step(self, episode: int, **said: Any) -> dict[str, Any]:
        return self._episodes[episode].step(**said)

    def close(self, episode: int) -> dict[str, Any]:
        closed = self._episodes.pop(episode, None)
        if closed is not None:
            closed.close()
        return {}

    def close_all(self) -> None:
        for episode in list(self._episodes):
            self.close(episode)


CALLS = ("begin", "reset", "step", "close")


def _asked(line: bytes) -> tuple[int, str, dict[str, Any]]:
    """(id, call, arguments) of a line; raises ValueError for one that is none."""
    request = json.loads(line, parse_constant=_no_constant)
    if not isinstance(request, dict) or request.keys() != {"id", "call", "arguments"}:
        raise ValueError("a request has id, call and arguments, and nothing else")
    if type(request["id"]) is not int or not isinstance(request["arguments"], dict):
        raise ValueError("an id is an integer, and arguments are an object")
    if request["call"] not in CALLS:
        raise ValueError(f"the calls are {', '.join(CALLS)}")
    return request["id"], request["call"], request["arguments"]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _said(error: BaseException) -> str:
    """What went wrong, with the place that it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_SHOWN]}{where}"


def _answered(dispatch: Dispatch, call: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": getattr(dispatch, call)(**arguments)}
    except Refused as error:
        return {"error": {"kind": "refused", "message": str(error)}}
    except Exception as error:
        return {"error": {"kind": "failed", "message": _said(error)}}


def _line(number: int, answer: dict[str, Any]) -> bytes:
    try:
        text = json.dumps({"id": number, **answer}, allow_nan=False)
    except (TypeError, ValueError) as error:  # what the package gave is no JSON
        failed = {"kind": "failed", "message": f"it gave what JSON cannot hold: {error}"}
        text = json.dumps({"id": number, "error": failed})
    if len(text) >= LONGEST:
        failed = {"kind": "failed", "message": f"it gave more than {LONGEST} bytes"}
        text = json.dumps({"id": number, "error": failed})
    return text.encode() + b"\n"


def _apart() -> tuple[BinaryIO, BinaryIO]:
    """The pipes of this protocol, of which nothing that the package does knows any more."""
    asked = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return asked, answers


def serve(package: Package) -> None:
    """Answers until there are no more questions."""
    asked, answers = _apart()
    dispatch = Dispatch(package)
    while line := asked.readline(LONGEST):
        try:
            number, call, arguments = _asked(line)
        except ValueError as error:
            print(f"The worker was asked what it cannot read: {error}.", file=sys.stderr)
            sys.exit(2)
        answers.write(_line(number, _answered(dispatch, call, arguments)))
        answers.flush()
    dispatch.close_all()
