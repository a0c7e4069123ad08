"""Webhooks tell of new items, signed, without delaying anybody, and their failures are logged once."""
import hashlib
import hmac
import http.server
import json
import logging
import threading

import pytest

from jaxrl_moe.judges.queue.sql import SqlQueue
from jaxrl_moe.judges.queue.webhook import SIGNATURE, Webhook
from jaxrl_moe.outgoing.urls import Allowed
from jaxrl_moe.types import UserError
from tests.helpers.judged import BY_RUBRIC, work
from tests.helpers.waiting import wait_until

NONE = Allowed((), "--allow")


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent, and answers with what the server is told to."""

    def do_POST(self):
        if self.server.gate is not None:
            self.server.gate.wait()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, body, self.headers))
        self.send_response(self.server.answer)
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def receiver():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.got = []
    server.answer = 204
    server.gate = None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_new_item_is_told_of_once_and_signed(receiver, tmp_path):
    hook = Webhook([f"{receiver.url}/hook"], NONE, "secret")
    queue = SqlQueue(f"sqlite:///{tmp_path}/queue.db", webhook=hook)
    receiver.gate = threading.Event()
    items = [queue.put(work(number), BY_RUBRIC) for number in (1, 2, 1)]  # the receiver keeps nobody waiting
    receiver.gate.set()
    queue.close()
    events = [json.loads(body) for _, body, _ in receiver.got]
    assert [(event["event"], event["item"]) for event in events] == [("item.created", item)
                                                                    for item in items[:2]]
    assert events[1]["waiting"] == 2
    for path, body, headers in receiver.got:
        signature = "sha256=" + hmac.new(b"secret", body, hashlib.sha256).hexdigest()
        assert path == "/hook" and headers[SIGNATURE] == signature and b"secret" not in body


def test_redirects_are_not_followed_and_failures_are_told_once_without_secrets(receiver, caplog):
    receiver.answer = 307
    hook = Webhook([f"{receiver.url}/services/T0/verysecret"], NONE)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            hook.created(f"item{number}", lambda: 1)
        wait_until(lambda: len(receiver.got) == 3)
        receiver.answer = 200
        hook.created("item3", lambda: 1)
        wait_until(lambda: len(receiver.got) == 4)
        hook.close()
    assert {path for path, _, _ in receiver.got} == {"/services/T0/verysecret"}
    assert len(caplog.messages) == 1 and "status 307" in caplog.messages[0]
    assert "verysecret" not in caplog.text


def test_a_server_that_is_away_is_told_of_and_nobody_waits(receiver, caplog, tmp_path):
    url = receiver.url.replace(str(receiver.server_port), "9")
    queue = SqlQueue(f"sqlite:///{tmp_path}/queue.db", webhook=Webhook([url, receiver.url], NONE))
    queue.put(work(1), BY_RUBRIC)
    queue.close()
    assert len(receiver.got) == 1 and "ConnectError" in caplog.text


@pytest.mark.parametrize("url, words", [
    ("https://example.org/hook", "not called"), ("http://169.254.169.254/latest", "not called"),
    ("ftp://127.0.0.1", "no address")])
def test_strangers_and_link_local_addresses_are_refused(url, words):
    with pytest.raises(UserError, match=words):
        Webhook([url], NONE)
    with pytest.raises(UserError, match="link-local"):
        Webhook(["http://169.254.169.254/x"], Allowed(["http://169.254.169.254/x"], "--allow"))
