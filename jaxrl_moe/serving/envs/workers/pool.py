"""The workers of a server: who holds a session, who is to have the next one, and what they count together."""
import asyncio
import concurrent.futures
import dataclasses
import itertools
import time
from collections.abc import Sequence
from typing import Any

from jaxrl_moe.outgoing.calls import httpx_library
from jaxrl_moe.outside import Fields, parse
from jaxrl_moe.serving.envs.wires import Wire
from jaxrl_moe.serving.envs.workers.totals import Totals
from jaxrl_moe.serving.envs.workers.worker import Worker
from jaxrl_moe.serving.http.metrics import metric
from jaxrl_moe.spelling import cut
from jaxrl_moe.types import UserError

LOOK_SECONDS = 30.0  # that a worker has to tell how it is
ROOM_SECONDS = 10.0  # that a client waits for room at most, where sessions are being created
AGAIN_SECONDS = 0.05
LINGER = 5.0  # seconds beyond the grace, after which a worker that does not end is killed


class Gone(Exception):
    """The worker that was asked has ended, or is being started anew."""


@dataclasses.dataclass
class Share:
    """What a worker has by its own account."""
    open: int
    held: int
    most: int


class Workers:
    """Calls go to the worker whose session they name; a session's number, divided by how many workers there
    are, leaves its worker's.

    Args:
      name: of the environment.
      wire: how its sessions look on the wire.
      workers: by number.
      grace: seconds that calls at work have at the end.

    Attributes:
      killed: workers that did not end in time, once the server is closed.
    """

    def __init__(self, name: str, wire: Wire, workers: Sequence[Worker], grace: float):
        self.name = name
        self.wire = wire
        self.killed = 0
        self._totals = Totals()
        self._workers = workers
        self._grace = grace
        self._turns = itertools.count()
        self._client: Any = None

    @property
    def alive(self) -> int:
        """Workers that serve."""
        return sum(bool(worker.url) for worker in self._workers)

    def start(self) -> None:
        """Returns once all of them serve: the first alone, so that what ails them all is said once.

        Raises:
          UserError: one cannot.
        """
        first, *others = self._workers
        first.start()
        with concurrent.futures.ThreadPoolExecutor(max(len(others), 1)) as threads:
            for started in [threads.submit(worker.start) for worker in others]:
                started.result()

    def holder(self, session: int) -> Worker:
        """Who holds a session, if anybody does."""
        return self._workers[session % len(self._workers)]

    def any(self) -> Worker:
        """One that serves, in turns; raises UserError where none does."""
        start = next(self._turns)
        for step in range(len(self._workers)):
            worker = self._workers[(start + step) % len(self._workers)]
            if worker.url:
                return worker
        raise UserError("None of the workers serves: they are being started anew. Ask again.")

    async def roomiest(self) -> Worker:
        """Who has the fewest sessions, of those that have room; sessions that are being created count.

        Raises:
          UserError: none has, or none serves.
        """
        end = time.monotonic() + ROOM_SECONDS
        while True:
            begun = [worker.created for worker in self._workers]
            shares = await self.shares()
            if not shares:
                raise UserError("None of the workers serves: they are being started anew. Ask again.")
            coming = {number: self._coming(number, begun) for number in shares}
            room = {number: share.most - share.held - coming[number] for number, share in shares.items()}
            turn = next(self._turns)  # of workers that have as much room each has its turn
            number = max(room, key=lambda each: (room[each], (each - turn) % -len(self._workers)))
            if room[number] > 0:
                return self._workers[number]
            if not any(coming.values()) or time.monotonic() > end:
                most = sum(share.most for share in shares.values())
                raise UserError(f"All {most} sessions of this server are taken: close those that are done, "
                                "or start it with more --sessions.")
            await asyncio.sleep(AGAIN_SECONDS)  # what was being created may have counted twice

    def _coming(self, number: int, begun: Sequence[int]) -> int:
        """Sessions that a worker may not have counted yet, as of those that it had created when it was
        asked."""
        worker = self._workers[number]
        return worker.creating + worker.created - begun[number]

    async def shares(self) -> dict[int, Share]:
        """{number: what that worker has}, of those that serve."""
        answers = await self._all("/health")
        found = {}
        for number, content in answers.items():
            fields = Fields(parse(content, "A worker's health"), "A worker's health")
            found[number] = Share(*map(fields.integer, ("sessions", "held", "most")))
        return found

    async def metrics(self) -> str:
        """The numbers of all of them, summed, in Prometheus' text format."""
        texts = {number: content.decode() for number, content in (await self._all("/metrics")).items()}
        lines = [*self._totals.summed(texts, [worker.replaced for worker in self._workers]),
                 *metric("env_workers", "gauge", "workers that serve", {"": self.alive}),
                 *metric("env_workers_replaced_total", "counter", "workers that ended and were started anew",
                         {"": sum(worker.replaced for worker in self._workers)})]
        return "\n".join(lines) + "\n"

    async def ask(self, worker: Worker, method: str, path: str, *, body: bytes = b"",
                  headers: Sequence[tuple[bytes, bytes]] = (), timeout: float | None = None) -> Any:
        """A worker's answer.

        Raises:
          Gone: the worker has ended, or does not answer in time.
          UserError: what a client sent cannot be sent on.
        """
        library = httpx_library("Several workers")
        if self._client is None:
            self._client = library.AsyncClient(timeout=None, trust_env=False, limits=library.Limits(
                max_connections=None, max_keepalive_connections=None))
        if not worker.url:
            raise Gone
        sent = [(b"authorization", f"Bearer {worker.key}".encode()), *headers]
        try:
            return await self._client.request(method, worker.url + path, content=body, headers=sent,
                                              timeout=timeout)
        except (library.InvalidURL, library.LocalProtocolError) as error:
            raise UserError(f"The request cannot be passed to a worker: {cut(str(error))}.") from error
        except library.TransportError as error:
            raise Gone from error

    async def _all(self, path: str) -> dict[int, bytes]:
        """{number: what that worker answers}, of those that do in time."""
        answers = await asyncio.gather(*(self._content(worker, path) for worker in self._workers))
        return {number: content for number, content in enumerate(answers) if content is not None}

    async def _content(self, worker: Worker, path: str) -> bytes | None:
        try:
            answer = await self.ask(worker, "GET", path, timeout=LOOK_SECONDS)
        except Gone:
            return None
        return answer.content if answer.status_code == 200 else None

    def close(self) -> None:
        """Ends all of them; those that do not end in time are killed, and counted as `killed`."""
        for worker in self._workers:
            worker.ask_to_end()
        self.killed = sum(not worker.close(self._grace + LINGER) for worker in self._workers)
