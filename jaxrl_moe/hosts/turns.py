"""Programs over several devices are started by one thread at a time.

Two threads that each start one may reach the devices in different orders; each program then waits on some of
them for the other one.
"""
import contextlib
import threading
from collections.abc import Iterator

_turn = threading.RLock()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within it no other thread of this process starts a program, as far as it asks here too; it may be
    entered again from within."""
    with _turn:
        yield
