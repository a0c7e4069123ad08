"""Threads that grade while others draw and train."""
import queue
import threading
from collections.abc import Callable


class Graders:
    """Carries out jobs in threads of its own, in order of arrival. A job deals with its own errors.

    The threads end with the process: a grader that hangs keeps no run from ending.
    """

    def __init__(self, threads: int):
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"grader-{number}", daemon=True) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)

    def close(self) -> None:
        """Lets the threads end after what was put before; waits for none."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self):
        while (job := self._jobs.get()) is not None:
            job()
