"""One engine, many callers: a driver thread steps it, and all other threads reach it through here, between
its steps."""
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future
from typing import Any, TypeVar

from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.engine.sequences import Chunk
from jaxrl_moe.protocols import StreamingEngine
from jaxrl_moe.serving.ticket import Ticket
from jaxrl_moe.types import Completion, Request, UserError

T = TypeVar("T")


STEP_SECONDS = 0.02  # that step() waits for a request to be done


class EngineFront(StreamingEngine):
    """A StreamingEngine that training and HTTP requests share: the loop's come by submit() and generate(),
    the clients' by serve().

    Every call is carried out on the driver's thread, in order of arrival, between two steps. After release()
    nothing is drawn until publish(), generate(), resume() or step(): during an update the pool's memory is
    the trainer's and the weights are in change, so requests that arrive then wait; nothing that the update
    itself waits for, such as a grader, may ask then. Tokens carry the version of the weights that drew them.
    With HTTP requests among them a rollout's batches differ, so its numbers agree to rounding, not bit for
    bit.

    One thread of the loop calls submit(), step(), cancel() and cut() for its requests. From the first step()
    on they are drawn between its calls too.

    Args:
      engine: nobody else may use it meanwhile.
      paused: whether requests wait for the first publish() or generate(), as where the weights are still to
        be read.
    """

    def __init__(self, engine: JaxEngine, paused: bool = False):
        self.version = 0
        self._engine = engine
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._tickets: dict[int, Ticket] = {}
        self._submitted: set[Ticket] = set()  # the loop's, which step() has not returned yet
        self._waiting: list[Ticket] = []      # of those, the ones that wait for the next step()
        self._ended: queue.SimpleQueue[Ticket] = queue.SimpleQueue()  # of those
        self._paused = paused
        self._closed = False
        self._door = threading.Lock()
        self._thread = threading.Thread(target=self._drive, name="engine", daemon=True)
        self._thread.start()

    def __enter__(self) -> "EngineFront":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closed

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def slots(self) -> int:
        return self._engine.slots

    @property
    def context(self) -> int:
        return self._engine.context

    @property
    def devices(self) -> Set[Any]:
        """Where the weights lie that it draws from."""
        return self._engine.devices

    def check(self, request: Request, name: str = "") -> None:
        """Raises UserError for a request that cannot be met; waits for nothing."""
        self._engine.check(request, name)

    def stats(self) -> dict[str, float]:
        """The engine's totals; waits for nothing."""
        return self._engine.stats()

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """Returns request.params.n completions for each request, in order. Where nobody else asks meanwhile,
        they have the bits that the engine alone gives them. Raises UserError for one that cannot be met."""
        for request in requests:
            self.check(request)
        tickets = [Ticket(request) for request in requests]

        def enter(engine: JaxEngine):
            self._paused = False
            self._forget(engine)
            for ticket in tickets:
                self._enter(ticket)

        try:
            self.ask(enter)
            drawn = [ticket.done.result() for ticket in tickets]
            self.ask(self._forget)
            return drawn
        except BaseException:
            for ticket in tickets:
                self.cancel(ticket)
            raise

    def serve(self, request: Request, notify: Callable[[list[Chunk]], None]) -> Ticket:
        """Queues a client's request without waiting; raises UserError for one that cannot be met."""
        self.check(request)
        ticket = Ticket(request, notify)
        self._post(lambda: self._enter(ticket), ticket.done)
        return ticket

    def submit(self, request: Request) -> Ticket:
        """Queues a request of the loop's for the next step(). Raises UserError for one that cannot be met."""
        self.check(request)
        ticket = Ticket(request)
        ticket.done.add_done_callback(lambda _: self._ended.put(ticket))
        self._submitted.add(ticket)
        self._waiting.append(ticket)
        return ticket

    def step(self) -> dict[Ticket, list[Completion]]:
        """The submitted requests that are done by now; waits a moment for the first, if there are any. Raises
        what went wrong with one of them."""
        done = {}
        self._begin()
        try:
            while self._submitted:
                ticket = self._ended.get(timeout=0 if done else STEP_SECONDS)
                if ticket in self._submitted:  # else it was cancelled or cut
                    self._submitted.remove(ticket)
                    done[ticket] = ticket.done.result()
        except queue.Empty:
            pass
        return done

    def _begin(self):
        """Goes on with what was submitted, and begins with what waited for it, all at once."""
        tickets = [ticket for ticket in self._waiting if ticket in self._submitted]
        self._waiting = []

        def enter():
            self._paused = False
            for ticket in tickets:
                self._enter(ticket)
        if tickets or self._paused:
            self._post(enter, *(ticket.done for ticket in tickets))

    def cancel(self, ticket: Ticket) -> None:
        """Frees what a request holds, without waiting; one that is done is left alone."""
        def drop():
            if self._tickets.pop(ticket.handle, None) is not None:
                self._engine.cancel(ticket.handle)
            ticket.done.cancel()  # which a future that is done ignores
        self._submitted.discard(ticket)
        self._post(drop)

    def cut(self, ticket: Ticket) -> list[Completion] | None:
        """Ends a submitted request at what its samples have by now; None, and nothing is done, where a sample
        has no token yet, or where it is done."""
        def end(engine: JaxEngine):
            completions = engine.cut(ticket.handle) if ticket.handle in self._tickets else None
            if completions is not None:
                self._submitted.discard(ticket)
                self._tickets.pop(ticket.handle).done.set_result(completions)
            return completions
        return self.ask(end)

    def publish(self, params: Any, version: int) -> Mapping[str, float] | None:
        """Draws from these weights from the next step on; requests in flight go on with them."""
        def swap(engine: JaxEngine):
            figures = engine.publish(params, version)
            self.version = version
            self._paused = False
            return figures
        return self.ask(swap)

    def release(self) -> None:
        """Frees the KV pool and pauses. Requests in flight keep their tokens."""
        def pause(engine: JaxEngine):
            engine.release()
            self._paused = True
        self.ask(pause)

    def resume(self) -> None:
        """Goes on after release() with the weights as they are."""
        def go_on(_: Any):
            self._paused = False
        self.ask(go_on)

    def ask(self, action: Callable[[JaxEngine], T]) -> T:
        """Waits for the driver to carry out an action on the engine, and returns what it returns."""
        answer = Future()

        def act():
            try:
                answer.set_result(action(self._engine))
            except BaseException as error:
                answer.set_exception(error)
        self._post(act, answer)
        return answer.result()

    def close(self) -> None:
        """Ends the driver; requests in flight fail."""
        with self._door:
            first = not self._closed
            self._closed = True
            if first:
                self._inbox.put(None)
        self._thread.join()
        self._fail(_closed())

    def _post(self, action: Callable[..., Any], *answers: Future):
        with self._door:
            if not self._closed:
                self._inbox.put(action)
                return
        for answer in answers:
            answer.set_exception(_closed())

    def _forget(self, engine: JaxEngine):
        """Between batches nothing is kept, but for requests that are in flight beside them."""
        if not self._tickets:
            engine.forget()

    def _enter(self, ticket: Ticket):
        try:
            ticket.handle = self._engine.submit(ticket.request, ticket.listener)
            self._tickets[ticket.handle] = ticket
        except Exception as error:
            ticket.done.set_exception(error)

    def _drive(self):
        while self._obey():
            self._step()

    def _obey(self) -> bool:
        """Carries out what was posted, and waits for more while there is nothing to step; False at the
        end."""
        while True:
            try:
                action = self._inbox.get(block=self._paused or not self._tickets)
            except queue.Empty:
                return True
            if action is None:
                return False
            action()

    def _step(self):
        try:
            finished = self._engine.step()
        except Exception as error:  # the engine has dropped all requests; who waits for them learns why
            logging.getLogger(__name__).exception("A step of the engine failed")
            self._fail(error)
            return
        for ticket in self._tickets.values():
            ticket.pass_on()
        for handle, completions in finished.items():
            self._tickets.pop(handle).done.set_result(completions)

    def _fail(self, error: BaseException):
        tickets = self._tickets
        self._tickets = {}
        for ticket in tickets.values():
            ticket.done.set_exception(error)


def _closed():
    return UserError("The engine was closed while the request was in flight. Start the server again.")
