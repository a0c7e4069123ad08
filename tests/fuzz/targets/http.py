"""What the targets that send requests over HTTP share: an odd request, its answer, and what the server
logged."""
import http.client
import json
import logging
import random
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from tests.fuzz.arena import TooSlow
from tests.fuzz.mutators import mutate_bytes, mutate_json
from tests.fuzz.runner import Target, Wrong

METHODS = ("POST", "POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
HEADERS: tuple[dict[str, str], ...] = (
    {}, {"Content-Type": "text/plain"}, {"Content-Type": "application/json; charset=x"},
    {"Content-Type": "multipart/form-data"}, {"Content-Encoding": "gzip"}, {"Content-Type": ""},
    {"Expect": "100-continue"}, {"Accept": "image/png"}, {"X-Long": "a" * 20000},
    {"Content-Length": "99999999"}, {"Host": ""}, {"Authorization": "Bearer kez"},
    {"Authorization": "Bearer k\xe9y"}, {"Connection": "close"}, {"Cookie": "\x7f"})
Answer = tuple[int, str, bytes]  # status, content type, body


class Caught(logging.Handler):
    """Keeps the last exception that the server logged."""
    error: BaseException | None = None

    def emit(self, record):
        if record.exc_info and record.exc_info[1] is not None:
            self.error = record.exc_info[1]


class HttpTarget(Target):
    """Requests to a server whose key is "key".

    Attributes:
      request: (method, path, body, headers) of the next one.
      loggers: of the server, where exceptions are told that no client is to see.
    """
    named = False
    loggers: ClassVar[Sequence[str]] = ("jaxrl_moe.serving.http.errors", "uvicorn.error")

    def listen(self) -> None:
        """Hears what the server logs, until deafen()."""
        self.caught = Caught()
        for name in self.loggers:
            logger = logging.getLogger(name)
            logger.addHandler(self.caught)
            logger.propagate = False

    def deafen(self) -> None:
        for name in self.loggers:
            logging.getLogger(name).removeHandler(self.caught)

    def mutated(self, rng: random.Random, path: str, body: Any, added: Sequence[dict[str, Any]],
                odd: Callable[[], Sequence[str]], share: float = 0.25) -> str:
        """Sets `request` to a POST that is damaged somewhere; says how.

        Args:
          path, body: of the ordinary one.
          added: fields of which one is added, in this share of the requests.
          odd: the paths of an odd request.
        """
        data = json.dumps(body).encode()
        method = "POST"
        headers: dict[str, str] = {}
        chance = rng.random()
        if chance < 0.1:
            data, done = mutate_bytes(rng, data)
        elif chance < 0.1 + share:
            field = rng.choice(added)
            data, done = json.dumps(body | field).encode(), f"with {str(field)[:100]}"
        elif chance < 0.2 + share:
            method, path, headers = self._odd_request(rng, odd())
            done = "the request"
        elif body:
            data, done = mutate_json(rng, data)
        else:
            done = "nothing"
        self.request = method, path, data, headers
        return f"{method} {path[:80]} {str(headers)[:80]}: {done}"

    def _odd_request(self, rng: random.Random, paths: Sequence[str]) -> tuple[str, str, dict[str, str]]:
        """(method, path, headers)."""
        return rng.choice(METHODS), rng.choice(paths), rng.choice(HEADERS)

    def send(self, url: str, method: str, path: str, data: bytes, headers: dict) -> Answer:
        """The server's answer; (400, "closed", why) where it breaks the connection of an odd request."""
        address = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=5)
        try:
            given = {"Content-Type": "application/json", "Authorization": "Bearer key"} | headers
            connection.request(method, path, data, given)
            if given.get("Content-Length") == "99999999":
                connection.sock.shutdown(1)  # no more comes
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type") or "", answer.read()
        except TimeoutError as error:
            raise TooSlow("no answer within 5 seconds") from error
        except (http.client.HTTPException, OSError) as error:
            if headers or not data:
                return 400, "closed", str(error).encode()
            raise Wrong("the connection was closed without an answer", repr(error)) from error
        finally:
            connection.close()
