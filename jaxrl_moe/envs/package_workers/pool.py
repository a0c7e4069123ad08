"""Workers of one package: started as they are needed, and replaced where they have ended."""
import threading
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.envs.package_workers.launch import Launch
from jaxrl_moe.envs.package_workers.worker import Worker
from jaxrl_moe.outside import Fields
from jaxrl_moe.types import EnvError, Status, UserError


class _Slot:
    """A place for a worker."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.worker: Worker | None = None
        self.facts: Fields
        self.episodes = 0


class Seat:
    """An episode's place at a worker; leave it in the end.

    Attributes:
      worker: that plays it.
      number: of the episode, at this worker and any other.
    """

    def __init__(self, slot: _Slot, worker: Worker, number: int):
        self.worker = worker
        self.number = number
        self._slot: _Slot | None = slot

    def call(self, name: str, arguments: Mapping[str, Any], seconds: float, failed: Status) -> Fields:
        """What the worker answers about this episode; arguments and errors are those of Worker.call."""
        return self.worker.call(name, {"episode": self.number, **arguments}, seconds, failed)

    def leave(self) -> bool:
        """Makes room; False where it had been left before."""
        slot = self._slot
        self._slot = None
        if slot is not None:
            slot.episodes -= 1
        return slot is not None


class Pool:
    """Any thread may take of it.

    Args:
      launch: how workers are started.
      count: of workers at most.
      settings: that each begins with.
      seconds: within which it shall have begun.
    """

    def __init__(self, launch: Launch, count: int, settings: Mapping[str, Any], seconds: float):
        self._launch = launch
        self._settings = settings
        self._seconds = seconds
        self._slots = [_Slot() for _ in range(count)]
        self._lock = threading.Lock()
        self._episodes = 0
        self._closed = False

    def facts(self) -> Fields:
        """What a worker says of the package as it is set up.

        Raises:
          UserError, EnvError: as take() does.
        """
        slot = self._slots[0]
        self._worker(slot)
        return slot.facts

    def take(self) -> Seat:
        """A seat at the worker that plays fewest episodes; starts one where it has ended, or never begun.

        Raises:
          UserError: the package refuses the settings, or there is none, or the pool is closed.
          EnvError: the worker failed as it began.
        """
        with self._lock:
            self._episodes += 1
            number = self._episodes
            slot = min(self._slots, key=lambda each: each.episodes)
            slot.episodes += 1
        try:
            return Seat(slot, self._worker(slot), number)
        except BaseException:
            with self._lock:
                slot.episodes -= 1
            raise

    def leave(self, seat: Seat) -> None:
        """Lets its worker close the episode; a second time it does nothing."""
        with self._lock:
            left = seat.leave()
        if left:
            seat.worker.end_episode(seat.number)

    def _worker(self, slot: _Slot) -> Worker:
        with slot.lock:
            self._check_open()
            if slot.worker is None or not slot.worker.runs:
                if slot.worker is not None:
                    slot.worker.close()
                slot.worker = Worker(self._launch)  # before it begins, so that close() can end it
                slot.facts = self._begun(slot.worker)
            return slot.worker

    def _begun(self, worker: Worker) -> Fields:
        try:
            self._check_open()  # again: close() may have looked before there was this worker
            return worker.call("begin", self._settings, self._seconds, Status.RESET_FAILED)
        except EnvError as error:
            worker.kill()
            raise EnvError(error.status, f"{error} If {self._launch.package} is not there, install it: "
                           f"{self._launch.install}.") from error
        except BaseException:
            worker.kill()
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise UserError("This task is closed: make another one.")

    def close(self) -> None:
        """Ends all workers, whatever they are at."""
        self._closed = True
        for slot in self._slots:
            if slot.worker is not None:
                slot.worker.close()
