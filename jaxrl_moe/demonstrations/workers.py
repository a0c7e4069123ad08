"""Processes that play episodes side by side. What comes of the rows comes in their order, whoever played them
and however long it took."""
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from jaxrl_moe import outside
from jaxrl_moe.demonstrations.oracles import oracle_of
from jaxrl_moe.demonstrations.play import play
from jaxrl_moe.envs.registry import make_task
from jaxrl_moe.foreign_errors import crash
from jaxrl_moe.protocols import Task
from jaxrl_moe.types import UserError

AHEAD = 2     # rows that a worker has waiting
ENDING = 10   # seconds that a worker may take to end
Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a worker must know: see make.Wanted."""
    env: str
    seed: int
    thoughts: bool


class Player(Protocol):
    """Takes rows, and gives what came of them in their order."""

    def send(self, row: Row) -> None: ...
    def receive(self) -> Row: ...


class Here:
    """A player in this process."""

    def __init__(self, setup: Setup, task: Task):
        self._setup = setup
        self._task = task
        self._oracle = oracle_of(setup.env)
        self._rows: deque[Row] = deque()

    def send(self, row: Row) -> None:
        self._rows.append(row)

    def receive(self) -> Row:
        played = play(self._task, self._oracle, self._rows.popleft(), self._setup.seed, self._setup.thoughts)
        return json.loads(json.dumps(played.to_json()))


class Worker:
    """A player in a process of its own, which ends with this one, however this one ends."""

    def __init__(self, setup: Setup):
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(dataclasses.asdict(setup))], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})

    def send(self, row: Row) -> None:
        try:
            print(json.dumps(row), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            pass  # receive() says what it died of

    def receive(self) -> Row:
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            code = self._process.wait()
            raise UserError(f"A worker ended by itself (exit code {code}), as where memory ran out. Give the "
                            "same command again to go on, with fewer --workers if it comes again.")
        answer = outside.parse(line, "a worker's answer")
        if "error" in answer:
            raise UserError(answer["error"])
        return answer

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def players(setup: Setup, task: Task, count: int) -> Iterator[Sequence[Player]]:
    """So many players; one alone plays the task in this process."""
    if count == 1:
        yield [Here(setup, task)]
        return
    with contextlib.ExitStack() as stack:
        pool = []
        for _ in range(count):
            pool.append(Worker(setup))
            stack.callback(pool[-1].close)
        yield pool


def in_order(pool: Sequence[Player], rows: Iterable[Row]) -> Iterator[Row]:
    """Yields what came of each row, in their order: the players take turns, and have AHEAD rows at most."""
    waiting: deque[Player] = deque()
    for number, row in enumerate(rows):
        player = pool[number % len(pool)]
        player.send(row)
        waiting.append(player)
        if len(waiting) == AHEAD * len(pool):
            yield waiting.popleft().receive()
    while waiting:
        yield waiting.popleft().receive()


def main(setup: Setup) -> None:
    """A worker: plays the rows of stdin, one a line, until that ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    task = make_task(setup.env)
    try:
        here = Here(setup, task)
        for line in sys.stdin:
            here.send(outside.parse(line, "a row"))
            print(json.dumps(_answer(here)), file=answers, flush=True)
    except BrokenPipeError:
        pass  # nobody waits for it any more
    finally:
        task.close()


def _answer(here: Here) -> Row:
    try:
        return here.receive()
    except UserError as error:
        return {"error": str(error)}
    except Exception as error:
        return {"error": f"The oracle's code failed: {crash(error)}."}


if __name__ == "__main__":
    main(Setup(**outside.parse(sys.argv[1], "the setup")))
