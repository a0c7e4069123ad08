"""Calls of py4j's protocol, against a server that has its answers written down."""
import contextlib
import socket
import threading

import pytest

from jaxrl_moe.envs.text.sciworld.gateway import Gateway, GatewayError, JavaFailure, Reference

GAME = Reference("o1")


@contextlib.contextmanager
def gateway(*answers, timeout=10.0):
    """(the gateway, all that it has sent); each request gets the next answer, None: none at all. After the
    last the connection ends."""
    server = socket.create_server(("127.0.0.1", 0))
    sent = []
    over = threading.Event()

    def serve():
        connection, _ = server.accept()
        with connection, connection.makefile("r", encoding="utf-8", newline="\n") as requests:
            for number, answer in enumerate(("!yv", *answers)):
                lines = [requests.readline() for _ in range(2)] if number == 0 else []
                while number and (not lines or lines[-1] != "e\n"):
                    lines.append(requests.readline())
                sent.append("".join(lines))
                if answer is None:
                    over.wait(10)
                else:
                    connection.sendall(f"{answer}\n".encode())

    thread = threading.Thread(target=serve)
    thread.start()
    with contextlib.closing(Gateway(server.getsockname()[1], "token", timeout)) as made:
        try:
            yield made, sent
        finally:
            over.set()
    thread.join()
    server.close()


def test_arguments_and_answers_keep_their_types_and_their_line_ends():
    text = "a\\nb\n\tc\r\\ ü"
    escaped = "a\\\\nb\\n\tc\\r\\\\ ü"
    with gateway(f"!ys{escaped}", "!yd0.25", "!ybtrue", "!ybfalse", "!yi-7", "!yv", "!yn", "!yro5") as found:
        made, sent = found
        answers = [made.call(GAME, "step", text, 3, True, 0.5, None, Reference("o2"))]
        answers += [made.call(GAME, "next") for _ in range(7)]
    assert answers == [text, 0.25, True, False, -7, None, None, Reference("o5")]
    assert sent[:2] == ["A\ntoken\n", f"c\no1\nstep\ns{escaped}\ni3\nbTrue\nd0.5\nn\nro2\ne\n"]


def test_half_a_surrogate_pair_is_sent_as_a_question_mark():
    with gateway("!ysfine") as (made, sent):
        assert made.call(GAME, "step", "a\ud800b") == "fine"
    assert sent[1] == "c\no1\nstep\nsa?b\ne\n"


def test_a_list_of_texts_is_asked_for_in_one_call_and_forgotten():
    with gateway("!ylo9", "!ysgo to hall\\nwait", "!yv") as (made, sent):
        assert made.texts(GAME, "getGoldActionSequence") == ["go to hall", "wait"]
    assert sent[2:] == ["c\nz:java.lang.String\njoin\ns\\n\nro9\ne\n", "m\nd\no9\ne\n"]


def test_an_exception_is_told_in_a_line_and_the_connection_goes_on():
    answers = ("!xro3", "!ysjava.lang.Error: no\\n at x", "!yv", "!xsMethod y does not exist", "!yi1")
    with gateway(*answers) as (made, _):
        for reason in ("^java.lang.Error: no$", "^Method y does not exist$"):
            with pytest.raises(JavaFailure, match=reason):
                made.call(GAME, "step", "x")
        assert made.call(GAME, "next") == 1


def test_a_connection_that_ends_or_a_silent_one_is_no_answer():
    with gateway() as (made, _), pytest.raises((GatewayError, OSError)):
        made.call(GAME, "step", "x")
    with gateway(None, timeout=0.1) as (made, _), pytest.raises(TimeoutError):
        made.call(GAME, "step", "x")
    with gateway("!y?") as (made, _), pytest.raises(GatewayError, match="unknown kind '[?]'"):
        made.call(GAME, "step", "x")
