"""Threads that grade, and play environments, while others draw and train."""
import queue
import threading
import time
from collections.abc import Callable
from typing import Any


class Job:
    """Something for a thread to do.

    Attributes:
      started: by time.monotonic; None while it waits for a thread.
      done: whether it has ended.
      result: what it returned.
      error: what it raised.
    """

    def __init__(self, work: Callable[[], Any]):
        self.started: float | None = None
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.seconds = 0.0
        self._work = work
        self._given_up: Callable[[], None] | None = None
        self._door = threading.Lock()

    def give_up(self, after: Callable[[], None]) -> bool:
        """Nobody waits for it any longer: `after` is called by its thread when it ends. False, and nothing is
        done, where it has ended."""
        with self._door:
            if not self.done:
                self._given_up = after
            return not self.done

    def run(self) -> bool:
        """In a thread; whether somebody still waits for it."""
        self.started = time.monotonic()
        try:
            if self._given_up is None:
                self.result = self._work()
        except BaseException as error:
            self.error = error
        with self._door:
            self.seconds = time.monotonic() - self.started
            self.done = True
        if self._given_up is not None:
            self._given_up()
        return self._given_up is None


class Graders:
    """Carries out jobs in threads of its own, in order of arrival; they are started as jobs need them.

    The threads end with the process: a grader that hangs keeps no run from ending.
    """

    def __init__(self, threads: int, notify: Callable[[], None]):
        """threads: at most; notify: called in a thread after each job."""
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._notify = notify
        self._most = threads
        self._threads = 0
        self._busy = 0  # jobs that wait or are at work, but for those that are given up
        self._door = threading.Lock()

    def put(self, job: Job) -> None:
        with self._door:
            self._busy += 1
            more = self._threads < min(self._busy, self._most)
            self._threads += more
        if more:
            self._start()
        self._jobs.put(job)

    def give_up(self, job: Job, after: Callable[[], None]) -> bool:
        """See Job.give_up; another thread takes the place of the one that is at it."""
        given_up = job.give_up(after)
        if given_up:
            self._over()
            self._start()
        return given_up

    def close(self) -> None:
        """Lets the threads end after what was put before; waits for none."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _start(self) -> None:
        threading.Thread(target=self._work, name="grader", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            wanted = job.run()
            if wanted:
                self._over()
            self._notify()
            if not wanted:
                return

    def _over(self) -> None:
        with self._door:
            self._busy -= 1
