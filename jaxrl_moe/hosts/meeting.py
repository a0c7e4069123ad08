"""Work of process 0 for which the others hold themselves ready, as parts of it are computed by all of them
together.

Process 0 talks to the world outside (servers) with threads and time-outs of its own; what it needs of arrays
that are split over the processes, only all of them can compute. So the others wait in `hold`, and do what
they are told until the work is done.
"""
import threading
from collections.abc import Callable, Mapping
from typing import Any

from jaxrl_moe.hosts import hosts
from jaxrl_moe.hosts.messages import hear, pack, tell
from jaxrl_moe.types import UserError


class Meeting:
    """One piece of work at a time.

    Args:
      parts: {name: what all processes compute}; the arguments travel from process 0, each process returns its
        own result. One that raises must raise in all of them.
    """

    def __init__(self, parts: Mapping[str, Callable[..., Any]]):
        self._parts = parts
        self._change = threading.Condition()
        self._held = False
        self._closed = False

    def hold(self, work: Callable[[], Any]) -> Any:
        """As hosts.from_leader(work); meanwhile work, in this thread or in others, may call `together`."""
        if hosts.leads():
            self._open(True)
            return hosts.from_leader(lambda: self._finish(work))
        message = hear()
        while "part" in message:
            self._parts[message["part"]](*message["arguments"])
            message = hear()
        return hosts.answered(message)

    def together(self, name: str, *arguments: Any) -> Any:
        """In process 0: its own result of a part that all processes compute. Outside of a meeting it waits
        for the next one.

        Raises:
          UserError: it was closed.
        """
        with self._change:
            self._change.wait_for(lambda: self._held or self._closed)
            if self._closed:
                raise UserError(f"The processes do not meet any more, so {name!r} cannot be computed.")
            if hosts.several():
                tell(pack({"part": name, "arguments": arguments}))
            return self._parts[name](*arguments)

    def close(self) -> None:
        """Lets those go who wait for a meeting. Each process does it by itself."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _open(self, held: bool) -> None:
        with self._change:
            self._held = held
            self._change.notify_all()

    def _finish(self, work: Callable[[], Any]) -> Any:
        """The work, and then nobody computes together any more: the answer is told next."""
        try:
            return work()
        finally:
            self._open(False)
