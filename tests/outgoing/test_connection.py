"""Calls of servers elsewhere, beside what tests of environments over HTTP show."""
import threading

from jaxrl_moe.outgoing.connection import Connection
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.chat_server import ChatServer, in_turn


def test_a_call_that_begins_while_all_is_closed_ends_too():
    """Threads that call as fast as they can, and connections that are closed meanwhile: none hangs."""
    with ChatServer(in_turn("well")) as server:
        for _ in range(12):
            connection = Connection(timeout=30)
            given = connection, server.url
            threads = [threading.Thread(target=_call_until_refused, args=given, daemon=True)
                       for _ in range(4)]
            for thread in threads:
                thread.start()
            connection.close()
            connection.close()  # a second time changes nothing
            for thread in threads:
                thread.join(20)
            assert not any(thread.is_alive() for thread in threads)


def _call_until_refused(connection, url):
    try:
        while True:
            try:
                connection.post(f"{url}/chat/completions", {}, Status.STEP_FAILED)
            except EnvError:
                continue  # it was given up; the next one is refused
    except UserError:
        return
