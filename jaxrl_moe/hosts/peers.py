"""The ends of the other processes of a job: what one says that fails, and the traces of one that died without
a word. Whatever ends this process for the sake of another prints one paragraph.

A death shows as an error of a collective, or JAX's own thread, which asks for heartbeats, aborts the process.
That thread calls nothing of Python's, so its SIGABRT is caught.
"""
import atexit
import ctypes
import faulthandler
import json
import os
import pathlib
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import jax
from jax._src import distributed

from jaxrl_moe import endings
from jaxrl_moe.hosts import hosts
from jaxrl_moe.partials import runs
from jaxrl_moe.types import UserError

FAILED = "jaxrl_moe/failed"
PROCESS = "jaxrl_moe/process"
LAST_WORDS = 3.0  # seconds that process 0, whom the others ask, outlives its end, and others wait for words
ANSWER = 2.0      # seconds that JAX's client has for an answer
_LINK = pathlib.Path("/proc/self/ns/pid")
# what transports and JAX's coordination service say of a process that is gone
_DEATH = re.compile(
    r"(closed|reset) by peer|socket closed|broken pipe|another (process|task)|unhealthy|heartbeat"
    r"|coordination ?service|failed to send rpc|connect failure|connection refused|preempted"
    r"|gloo .*(timed out|timeout)|nccl .*(remote|unhandled)", re.I)
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # gRPC answers it
_ending = threading.Lock()
_done = threading.Event()  # this process ends in peace, and so may the others
_processes: dict[int, dict[str, Any]] = {}


def watch() -> None:
    """Begins to look after the others, once all have joined."""
    hosts.announce()
    state = distributed.global_state
    own = {"machine": _visible(), "pid": os.getpid()}
    state.client.key_value_set(f"{PROCESS}/{state.process_id}", json.dumps(own))
    for index in range(state.num_processes):
        told = state.client.blocking_key_value_get(f"{PROCESS}/{index}", hosts.PATIENCE_MS)
        _processes[index] = json.loads(told)
    ctypes.CDLL(None).signal(signal.SIGABRT, _on_abort)
    atexit.register(_done.set)
    threading.Thread(target=_watch, args=(state.client,), daemon=True,
                     name="watch of the other processes").start()


def fail(error: BaseException) -> None:
    """Ends this process and tells the others why. It does not return: an ordinary exit would wait for
    them."""
    if is_death(error):
        _end_after_death()
    _ending.acquire()  # for the rest of the process
    state = distributed.global_state
    if endings.wants_debug(sys.argv):
        traceback.print_exception(error)
    said = endings.text(error)
    print(f"Process {state.process_id} of {state.num_processes} stops. {said}", file=sys.stderr, flush=True)
    _publish(f"Process {state.process_id} failed. {said}")
    _leave(endings.INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1)


def is_death(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, is what the death of another process looks like here."""
    while error is not None:
        if isinstance(error, (RuntimeError, ValueError)) and _DEATH.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _watch(client: Any) -> None:
    """Ends this process when another says that it failed, or is gone."""
    while not _done.wait(1):
        try:
            reason = client.key_value_try_get(FAILED)
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" not in str(error):
                return  # process 0 is gone, of which JAX tells
            if _gone() and not _done.is_set():
                _end_after_death()
            continue
        _ending.acquire()
        _follow(reason)


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _on_abort(_: int) -> None:
    """In the thread that aborts this process; it goes on with that where nobody died. Where one stands still,
    another thread has heard of it by an error of a collective, or hears of it now."""
    if _gone() or not _has_leader() or _words(0.0) or _is_ending():
        _end_after_death()
    faulthandler.dump_traceback(all_threads=True)
    ctypes.CDLL(None).signal(signal.SIGABRT, 0)


def _end_after_death() -> None:
    """Ends this process, which lost another one: with its words, if it left any."""
    _ending.acquire()
    words = _words(LAST_WORDS)
    if words:
        _follow(words)
    which = _gone() or [0] * (not _has_leader())
    who = f"Process {', '.join(map(str, which))}" if which else "Another process"
    state = distributed.global_state
    message = (f"{who} of the {state.num_processes} processes of this job died without a word, so process "
               f"{state.process_id} stops too. Look at what it printed last, and whether the system ended it "
               "(out of memory, a time limit, a lost machine). Then start all of them again: a run goes on "
               "from its newest checkpoint.")
    print(endings.paragraph(UserError(message)), file=sys.stderr, flush=True)
    _publish(message)
    _leave(1)


def _is_ending() -> bool:
    """Whether another thread ends this process, or begins to within a moment."""
    deadline = time.monotonic() + ANSWER
    while not _ending.locked() and time.monotonic() < deadline:
        time.sleep(0.1)
    return _ending.locked()


def _follow(reason: str) -> None:
    reason = " ".join(reason.split()).replace("Error: ", "")
    message = f"This process stops because another did. {reason}"
    print(endings.paragraph(UserError(message)), file=sys.stderr, flush=True)
    _leave(1)


def _words(patience: float) -> str:
    """Why another process failed, if it says so within these seconds."""
    client = distributed.global_state.client
    deadline = time.monotonic() + patience
    while _has_leader():
        answer = _asked(lambda: client.key_value_try_get(FAILED))
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(0.1)
    return ""


def _publish(reason: str) -> None:
    if _has_leader():
        _asked(lambda: distributed.global_state.client.key_value_set(FAILED, reason))


def _asked(call: Callable[[], str | None]) -> str:
    """What JAX's client answers; empty where it has no answer, or gives none soon: a thread that aborts may
    hold its lock."""
    answers = []

    def ask() -> None:
        try:
            answers.append(call())
        except jax.errors.JaxRuntimeError:  # there are no words, another was first, or process 0 is gone
            pass
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER)
    return (answers and answers[0]) or ""


def _leave(code: int) -> None:
    sys.stdout.flush()
    if distributed.global_state.process_id == 0:
        time.sleep(LAST_WORDS)
    os._exit(code)


def _gone() -> list[int]:
    """Those of the others that run where we can see them, and do not run any more."""
    own = _visible()
    return [index for index, process in _processes.items()
            if process["machine"] == own and not runs(process["pid"])]


def _has_leader() -> bool:
    """Whether process 0 answers; the system takes connections for one that stands still, too."""
    host, _, port = distributed.global_state.coordinator_address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER) as connection:
            connection.sendall(_GREETING)
            return bool(connection.recv(1))
    except OSError:
        return False


def _visible() -> str:
    """A name that those share who see each other's process numbers."""
    return f"{hosts.machine()} {os.readlink(_LINK)}" if _LINK.exists() else ""
