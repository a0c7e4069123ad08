"""The client of a judge server, ours or another that answers POST /api/judge/v1/score."""
import collections
import contextlib
import dataclasses
import functools
import itertools
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

from jaxrl_moe.judges.records import Verdict, Work, verdict_of
from jaxrl_moe.judges.rubric import Rubric
from jaxrl_moe.judges.served import check_served
from jaxrl_moe.outgoing.calls import StatusError, Unreached
from jaxrl_moe.outgoing.connection import Connection
from jaxrl_moe.outgoing.urls import checked_url
from jaxrl_moe.outside import Fields, OutsideError
from jaxrl_moe.spelling import cut, escaped
from jaxrl_moe.types import EnvError, Status, UserError

SCORE = "/api/judge/v1/score"
ITEMS = "/api/judge/v1/items"
CLIENT = "X-Judge-Client"  # the header with a client's name of its own
STATES = ("ok", "pending", "failed")
TIMEOUT = 45.0       # seconds within which judge servers answer a call that says nothing of them
MOST_WAIT = 30.0     # seconds that a server is asked to hold a question for
AGAIN_SECONDS = 0.5  # before what went wrong is tried again, and between two questions at least
RESTARTED = (429, 502, 503, 504)  # statuses that a server, or a proxy before it, has while it is started anew


class Dropped(EnvError):
    """No verdict came before the deadline: the work is not waited for any more, and not tried again."""
    final: ClassVar[bool] = True


class JudgeClient:
    """Asks a judge server for verdicts, and waits for them: for people, too. Any thread may call it.

    Args:
      url: of the server, without the path of the call.
      api_key: of the server; empty: it has none.
      timeout: seconds that a call may take.
      patience: seconds that a server which cannot be reached, or breaks a call, is waited for. What was
        handed in is handed in again, which changes nothing: items go by what they hold.
      deadline: seconds after which a verdict that has not come is `on_deadline`; 0: there is none.
      on_deadline: "wait": there is no deadline; "model": the provider "model" is asked instead; "drop": the
        work is given up as Dropped.
      provider: who is to judge, as the server calls them, such as "model" or "human"; empty: its default.
      model: which one of the server's models; empty: its first.
      rubric_id: which one of the server's rubrics; empty: its only one, or that which score() sends.

    Raises:
      UserError: a setting is out of range, or has no effect beside another.
    """

    def __init__(self, url: str, *, api_key: str = "", timeout: float = TIMEOUT, patience: float = 60.0,
                 deadline: float = 0.0, on_deadline: Literal["wait", "model", "drop"] = "wait",
                 provider: str = "", model: str = "", rubric_id: str = ""):
        _check(timeout, patience, deadline, on_deadline, provider)
        self._url = checked_url(url, "judge_url", "http://host:port")
        self._patience = patience
        self._deadline = deadline
        self._on_deadline = on_deadline
        self._timeout = timeout
        self._wait = min(MOST_WAIT, timeout / 2)
        given = {"provider": provider, "model": model, "rubric_id": rubric_id}
        self._options = {name: value for name, value in given.items() if value}
        self._door = threading.Lock()
        self._waits: collections.Counter[str] = collections.Counter()  # items -> calls that wait for them
        self._copies: dict[tuple[str, ...], set[int]] = {}
        self._over = threading.Event()
        self._has_key = bool(api_key)
        self._connection = Connection(timeout, patience, api_key, headers={CLIENT: uuid.uuid4().hex})

    def meet(self) -> None:
        """Asks the server how it is, once: whether it takes the key, and has who and what is asked for, as
        far as it tells.

        Raises:
          UserError: it cannot be reached, or calls would be refused.
        """
        told = self._asked("/health")
        self._asked(f"{ITEMS}/none")  # which is no item; /health may need no key
        if isinstance(told, dict):
            late = "model" if self._on_deadline == "model" else ""
            check_served(f"The judge at {self._url}", told, late=late, **self._options)

    def _asked(self, path: str) -> Any:
        """What the server says at a path; None where it is another server than ours, and has none such."""
        try:
            return self._connection.get(f"{self._url}{path}", Status.UNREACHABLE)
        except StatusError as error:
            if error.refuses_key:
                raise UserError(self._key_refused(error)) from error
            if error.code not in RESTARTED:
                return None
            raise UserError(f"The judge is not ready: {error}") from error
        except EnvError as error:
            if error.status == Status.MALFORMED:  # it answers in no JSON
                return None
            raise UserError(f"The judge is not ready: {error} Start it, or correct judge_url.") from error

    def score(self, work: Work, *, policy_name: str = "", task_app_id: str = "",
              rubric: Rubric | None = None, turns: bool = False, mode: str = "rubric",
              run: str = "") -> Verdict:
        """The verdict on a work; it may be hours until it returns.

        Args:
          policy_name, task_app_id: whose work it is; judges are not shown them.
          rubric: in place of the server's own.
          turns: whether each turn gets a reward too.
          mode: a row of MODES.
          run: the training run that waits.

        Raises:
          Dropped: the deadline passed; the server is told that the work is not waited for.
          EnvError: there is no verdict; it is final where the same call would be refused again.
          UserError: the server refuses the key.
        """
        options = self._options | {"event": turns, "outcome": True, "mode": mode}
        options |= {"run": run} if run else {}
        options |= {"rubric_overrides": rubric.plain()} if rubric else {}
        body = {"policy_name": policy_name, "task_app": {"id": task_app_id}, "options": options}
        with self._numbered(work, mode, run) as numbered:
            body["trace"] = numbered.plain()
            verdict = self._awaited(body)
            if verdict is None and self._on_deadline == "model":
                options.pop("model", None)  # it was of another provider
                verdict = self._awaited(body | {"options": options | {"provider": "model"}})
        if verdict is None:
            raise Dropped(Status.TIMED_OUT, f"{self._url} had no verdict within {self._deadline:g} seconds, "
                          "and the work is dropped.")
        return verdict

    def close(self) -> None:
        """Ends all calls, which raise EnvError where somebody still waits for them."""
        self._over.set()
        self._connection.close()

    @contextlib.contextmanager
    def _numbered(self, work: Work, mode: str, run: str) -> Iterator[Work]:
        """The work, which tells itself from equal ones of its group that are waited for."""
        if mode == "rubric":
            yield work
            return
        key = run, mode, work.group, work.digest()
        with self._door:
            waiting = self._copies.setdefault(key, set())
            copy = next(number for number in itertools.count(work.copy) if number not in waiting)
            waiting.add(copy)
        try:
            yield dataclasses.replace(work, copy=copy)
        finally:
            with self._door:
                waiting.discard(copy)
                if not waiting:
                    self._copies.pop(key, None)

    def _awaited(self, body: dict[str, Any]) -> Verdict | None:
        """The verdict; None where the deadline comes first."""
        end = time.monotonic() + self._deadline if self._deadline else float("inf")
        answer = self._submitted(body, end)
        if not isinstance(answer, str):
            return answer
        with self._door:
            self._waits[answer] += 1
        late = False
        try:
            verdict = self._waited(answer, body, end)
            late = verdict is None
        finally:
            self._leave(answer, late)
        return verdict

    def _waited(self, item: str, body: dict[str, Any], end: float) -> Verdict | None:
        """The verdict of an item; None where the deadline comes first."""
        answer: Verdict | str = item
        while isinstance(answer, str):
            asked = time.monotonic()
            if asked >= end:
                return None
            answer = self._looked(answer, body, end)
            if isinstance(answer, str):  # a server that does not hold questions is not pestered
                self._pause(min(AGAIN_SECONDS - (time.monotonic() - asked), end - time.monotonic()))
        return answer

    def _leave(self, item: str, late: bool) -> None:
        """A call waits for an item no more; after the deadline the server hears of it, unless another call
        waits. One that is closed takes nothing back: whoever starts again finds the answer there."""
        with self._door:
            self._waits[item] -= 1
            last = not self._waits[item]
            if last:
                del self._waits[item]
        if last and late and not self._over.is_set():
            try:
                self._connection.delete_later(self._item_url(item))
            except UserError as error:  # closed meanwhile
                raise self._given_up() from error

    def _submitted(self, body: dict[str, Any], end: float) -> Verdict | str:
        """The verdict, or the item that it will be of."""
        in_time = min(self._timeout, end - time.monotonic()) >= TIMEOUT
        url = f"{self._url}{SCORE}{'' if in_time else self._held(end)}"
        return self._read(self._patient(
            functools.partial(self._connection.post, url, body, Status.STEP_FAILED)))

    def _looked(self, item: str, body: dict[str, Any], end: float) -> Verdict | str:
        """The verdict of an item, or the item; it is handed in again where the server has forgotten it."""
        url = self._item_url(item) + self._held(end)
        try:
            return self._read(self._patient(
                functools.partial(self._connection.get, url, Status.STEP_FAILED)), item)
        except StatusError as error:
            if error.code != 404:
                raise
        return self._submitted(body, end)

    def _item_url(self, item: str) -> str:
        return f"{self._url}{ITEMS}/{urllib.parse.quote(item, safe='')}"

    def _held(self, end: float) -> str:
        """For how long the server is asked to hold a call, as a query."""
        return f"?wait={max(0.0, min(self._wait, end - time.monotonic())):.3f}"

    def _patient(self, call: Callable[[], Any]) -> Any:
        """Makes a call that may be made twice, until it is answered or the patience is over."""
        since = time.monotonic()
        while True:
            try:
                return call()
            except EnvError as error:
                if isinstance(error, StatusError) and error.refuses_key:
                    raise UserError(self._key_refused(error)) from error
                if not _passes(error) or time.monotonic() - since > self._patience:
                    error.final |= isinstance(error, StatusError) and error.lasts
                    raise
            except UserError as error:  # there are no calls any more
                raise self._given_up() from error
            self._pause(AGAIN_SECONDS)

    def _pause(self, seconds: float) -> None:
        if self._over.wait(max(0.0, seconds)):
            raise self._given_up()

    def _key_refused(self, error: StatusError) -> str:
        if self._has_key:
            return (f"The judge refuses the API key (judge_key_env): {error} Set it to the key that the "
                    "judge server was started with.")
        return (f"The judge needs an API key, and judge_key_env names none: {error} Name the environment "
                "variable with the judge server's key.")

    def _given_up(self) -> EnvError:
        return EnvError(Status.UNREACHABLE, f"{self._url} was given up: its client was closed.")

    def _read(self, answer: Any, item: str = "") -> Verdict | str:
        """The verdict, or the item that is to be asked for."""
        try:
            fields = Fields(answer, f"the answer of {self._url}")
            state = fields.string("status", choices=STATES)
            if state == "ok":
                return verdict_of(answer, fields.where)
            details = fields.object("details", None) or Fields({}, fields.where)
            if state == "pending":
                return details.string("item", *[item] * bool(item))
            reason = cut(escaped(details.string("reason", "it says no more")), 1000)
        except OutsideError as error:
            raise EnvError(Status.MALFORMED, str(error)) from error
        raise EnvError(Status.STEP_FAILED, f"{self._url} could not judge a work: {reason}")


def _passes(error: EnvError) -> bool:
    """Whether a call may go well later, and its connection has not been patient already."""
    if isinstance(error, StatusError):
        return error.code in RESTARTED
    return error.status in (Status.UNREACHABLE, Status.TIMED_OUT) and not isinstance(error, Unreached)


def _check(timeout: float, patience: float, deadline: float, on_deadline: str, provider: str) -> None:
    for name, value, fits in (("timeout", timeout, timeout > 0), ("patience", patience, patience >= 0),
                              ("deadline", deadline, deadline >= 0)):
        if not fits:
            raise UserError(f"{name} = {value:g} is out of range: give seconds.")
    if on_deadline not in ("wait", "model", "drop"):
        raise UserError(f"on_deadline = {on_deadline!r} is none of wait, model, drop.")
    if deadline and on_deadline == "wait":
        raise UserError(f"deadline = {deadline:g} has no effect with on_deadline = 'wait': choose model or "
                        "drop, or leave the deadline 0.")
    if not deadline and on_deadline != "wait":
        raise UserError(f"on_deadline = {on_deadline!r} has no effect with deadline = 0: give the seconds "
                        "after which it comes.")
    if on_deadline == "model" and provider == "model":
        raise UserError("on_deadline = 'model' has no effect with provider = 'model': it is asked already.")
