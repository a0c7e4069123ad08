"""Threads that grade while others draw and train."""
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class Graders:
    """Carries out jobs in threads of its own, in order of arrival. A job deals with its own errors.

    The threads end with the process: a grader that hangs keeps no run from ending.
    """

    def __init__(self, threads: int):
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"grader-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)

    def close(self) -> None:
        """Lets the threads end after what was put before; waits for none."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def in_order(jobs: Sequence[Callable[[], T]], threads: int) -> list[T]:
    """Carries out the jobs by so many threads; returns their results in the order of the jobs, whichever is
    done first.

    Raises:
      The error of the first job, in that order, that has one; those that have not begun are left out then.
    """
    if threads == 1 or len(jobs) < 2:
        return [job() for job in jobs]
    graders = Graders(min(threads, len(jobs)))
    answers = [Future() for _ in jobs]
    try:
        for job, answer in zip(jobs, answers, strict=True):
            graders.put(lambda job=job, answer=answer: _answer(job, answer))
        return [answer.result() for answer in answers]
    finally:
        for answer in answers:
            answer.cancel()
        graders.close()


def _answer(job: Callable[[], T], answer: "Future[T]") -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(job())
    except BaseException as error:
        answer.set_exception(error)
