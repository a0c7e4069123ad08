"""What the targets that send requests over HTTP share: an odd request, its answer, and what the server
logged."""
import http.client
import logging
import random
import urllib.parse
from collections.abc import Sequence
from typing import ClassVar

from tests.fuzz.arena import TooSlow
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

    def odd_request(self, rng: random.Random, paths: Sequence[str]) -> tuple[str, str, dict[str, str]]:
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
