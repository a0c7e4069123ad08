"""Tells other servers of new items: POST {"event": "item.created", "item": id, "waiting": n, "at": time}."""
import hashlib
import hmac
import json
import logging
import queue as queues
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from jaxrl_moe.outgoing.calls import httpx_library
from jaxrl_moe.outgoing.urls import Allowed
from jaxrl_moe.types import UserError

SIGNATURE = "X-Signature-256"  # "sha256=" and the HMAC of the body, in hex
TIMEOUT = 10.0                 # seconds that a server has
CLOSE_SECONDS = 5.0            # that what is still to be sent has when all is closed
MOST_WAITING = 1000            # events that are not sent yet; further ones are left out

_log = logging.getLogger(__name__)


class Webhook:
    """Sends events from a thread of its own, in their order, each once: nobody waits for it. A server that
    fails is told of in the log once, until it answers again.

    Args:
      urls: whom to tell.
      allowed: the addresses that the operator trusts.
      secret: signs the bodies; empty: they are not signed.

    Raises:
      UserError: a URL is none, or may not be called.
    """

    def __init__(self, urls: Sequence[str], allowed: Allowed, secret: str = ""):
        self._urls = [allowed.check(url) for url in urls]
        self._allowed = allowed
        self._secret = secret.encode()
        self._http = httpx_library("Webhooks are sent")
        self._failing: set[str] = set()
        self._overflown = False
        self._events: queues.Queue[tuple[str, Callable[[], int]] | None] = queues.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._send_all, name="webhook", daemon=True)
        self._thread.start()

    def created(self, item: str, waiting: Callable[[], int]) -> None:
        """An item is new; `waiting` counts what waits for judges, and is called later, in another thread."""
        try:
            self._events.put_nowait((item, waiting))
            self._overflown = False
        except queues.Full:
            if not self._overflown:
                _log.warning("The webhook has more than %d events to send: further ones are left out.",
                             MOST_WAITING)
            self._overflown = True

    def close(self) -> None:
        """Sends what there is, for CLOSE_SECONDS at most."""
        end = time.monotonic() + CLOSE_SECONDS
        while self._thread.is_alive() and time.monotonic() < end:
            try:
                self._events.put(None, timeout=0.1)
            except queues.Full:
                continue
            self._thread.join(end - time.monotonic())

    def _send_all(self) -> None:
        with self._http.Client(trust_env=False, follow_redirects=False, timeout=TIMEOUT) as client:
            while (event := self._events.get()) is not None:
                item, waiting = event
                try:
                    body = json.dumps({"event": "item.created", "item": item, "waiting": waiting(),
                                       "at": time.time()}).encode()
                except UserError as error:  # the queue is closed, or its database is away
                    _log.warning("The webhook does not tell of the item %s: %s", item, error)
                    continue
                for url in self._urls:
                    self._send(client, url, body)

    def _send(self, client: Any, url: str, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        if self._secret:
            headers[SIGNATURE] = "sha256=" + hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        try:
            self._allowed.check(url)  # a name may lead elsewhere by now
            with client.stream("POST", url, content=body, headers=headers) as answer:
                failure = "" if answer.is_success else f"it answered with status {answer.status_code}"
        except self._http.HTTPError as error:
            failure = type(error).__name__
        except UserError:
            failure = "its address may not be called any more"
        self._tell(url, failure)

    def _tell(self, url: str, failure: str) -> None:
        if failure and url not in self._failing:
            # paths of webhooks hold secrets
            server = url.split("/", 3)[:3]
            _log.warning("The webhook at %s failed: %s. Further failures are not told until it answers.",
                         "/".join(server), failure)
        (self._failing.add if failure else self._failing.discard)(url)
