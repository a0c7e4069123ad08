"""The queue in a database."""
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxrl_moe.judges.agreement import opinions
from jaxrl_moe.judges.agreement.blending import Measured, measured
from jaxrl_moe.judges.agreement.opinions import BLENDED
from jaxrl_moe.judges.lookout import Lookout
from jaxrl_moe.judges.queue import answers, leasing, people, puts, settling, standing, tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.queue import Given, JudgeAgreement, Lease, Queue, QueueError, QueueProgress
from jaxrl_moe.judges.queue.settling import DONE, DROPPED, PEOPLE
from jaxrl_moe.judges.queue.store import DatabaseFailed, Store, is_name
from jaxrl_moe.judges.queue.webhook import Webhook
from jaxrl_moe.judges.records import Ask, Verdict, Work, verdict_of


@dataclasses.dataclass(frozen=True)
class ItemState:
    """How an item stands: its verdict, once people came to one; `dropped` says why there will be none, and
    is empty otherwise; `created` is the time.time() since which it waits."""
    verdict: Verdict | None
    dropped: str
    created: float


class SqlQueue(Queue):
    """A queue in SQLite, or in PostgreSQL where several hosts share it. Any number of processes may have it
    open; what a call has returned from survives their end.

    Args:
      url: sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME; its tables are made where there are none.
      overlap: judges who answer each new question. Those of before keep the number that they came with.
      gold_share: of a judge's answers, the share on gold items; a new judge gets one first. 0: none.
      uncertain_first: whether what a model is least sure of goes first, see keep_model().
      webhook: told of new items; closed with the queue.
      clock: seconds since 1970; hosts that share a queue should agree on them.

    Raises:
      QueueError: there is no such database, or it is none of ours.
    """

    def __init__(self, url: str, *, overlap: int = 1, gold_share: float = 0.0, uncertain_first: bool = False,
                 webhook: Webhook | None = None, clock: Callable[[], float] = time.time):
        if overlap < 1:
            raise QueueError(f"overlap = {overlap}: at least one judge answers a question.")
        if not 0 <= gold_share <= 1:
            raise QueueError(f"gold_share = {gold_share}: give a share from 0 to 1.")
        self._overlap = overlap
        self._handing = leasing.Handing(gold_share, uncertain_first)
        self._webhook = webhook
        self.store = Store(url, clock)
        self._lookout = Lookout(self._settled)

    def put(self, work: Work, ask: Ask) -> str:
        """Hands in a work and returns its item's id, which follows from what judges see, the rubric and the
        mode, and where works are compared from the group. A work that was dropped waits again.

        Under a rubric judges are asked about the work, and with ask.turns about each of its turns, as it
        stood then. With "pairwise" they are asked about each two works of the group, with "ranking" about all
        at once, as soon as all are there; equal ones, which `copy` numbers, are one item. A work beyond
        the group's size, as of an episode that a killed run plays again otherwise, joins it.

        Raises:
          UserError: it cannot be judged so.
        """
        item, is_new = self._write(puts.put, work, ask, self._overlap)
        if is_new and self._webhook is not None:
            self._webhook.created(item, self.waiting)
        return item

    def id_of(self, work: Work, ask: Ask) -> str:
        """The id that put() gives a work's item."""
        return puts.item_id(work, ask)[0]

    def waiting(self) -> int:
        """How many questions wait for judges."""
        return self.store.read(standing.waiting)

    def state(self, item: str) -> ItemState:
        """How an item stands. Raises KeyError where there is none such."""
        _check_id(item)

        def read(connection: sa.Connection) -> tuple[sa.Row | None, str | None]:
            row = connection.execute(sa.select(tables.items).where(tables.items.c.id == item)).one_or_none()
            kept = tables.verdicts.c
            return row, connection.scalar(sa.select(kept.body).where(kept.item == item, kept.name == PEOPLE))
        row, body = self.store.read(read)
        if row is None:
            raise KeyError(item)
        verdict = verdict_of(json.loads(body), f"the verdict on {item}") if row.state == DONE else None
        dropped = (json.loads(row.why) or "it was dropped") if row.state == DROPPED else ""
        return ItemState(verdict, dropped, row.created)

    def wait(self, item: str, seconds: float) -> ItemState:
        """How an item stands once there is something to say, or after so many seconds; a database that fails
        meanwhile is asked again until then."""
        end = time.monotonic() + seconds
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                state = self.state(item)
            except DatabaseFailed:
                if not left:
                    raise
            else:
                if state.verdict is not None or state.dropped or not left:
                    return state
            self._lookout.wait(item, left)

    def drop(self, item: str, why: str) -> None:
        """Nobody waits for an item any more: judges are not asked about it, unless another item needs the
        same answer. What they answer all the same is kept, and counts if the item is put again. Nothing
        happens to one that has its verdict."""
        _check_id(item)
        self._write(puts.drop, item, why)

    def keep_model(self, item: str, verdict: Verdict) -> None:
        """Keeps what a model says of an item, to compare people with; the first verdict stays. The nearer its
        reward is to the middle, the less sure it is taken to be."""
        self._write(opinions.keep_model, item, verdict)

    def keep_blended(self, item: str, verdict: Verdict) -> Verdict:
        """Keeps what people and a model come to together, and returns it, or what was kept before."""
        self._write(settling.keep_verdict, item, BLENDED, verdict)
        return self.kept(item, BLENDED)

    def kept(self, item: str, name: str) -> Verdict | None:
        """A verdict that is kept, by name: PEOPLE, MODEL or BLENDED."""
        _check_id(item)
        kept = tables.verdicts.c
        body = self.store.read(lambda connection: connection.scalar(
            sa.select(kept.body).where(kept.item == item, kept.name == name)))
        return None if body is None else verdict_of(json.loads(body), f"the verdict on {item}")

    def work(self, item: str) -> tuple[Work, Ask]:
        """An item's work and how it is judged; its group has another name, and of equal works it is the one
        of the highest number. Raises KeyError where there is none such."""
        _check_id(item)
        return self.store.read(lambda connection: puts.work_of_item(connection, item))

    def measured(self) -> Measured:
        """How a model compares with people, on all that both judged."""
        return measured(self.store.read(opinions.model_pairs))

    def add_judge(self, name: str) -> str:
        """Adds a judge, or one who was removed, and returns their personal token, of which only a hash is
        kept."""
        return self._write(people.add_judge, name)

    def remove_judge(self, name: str) -> None:
        """Makes a judge's token void; their answers stay."""
        self._write(people.remove_judge, name)

    def judges(self) -> list[str]:
        """The names of those who may log in."""
        return self.store.read(people.names)

    def add_gold(self, work: Work, ask: Ask, scores: Mapping[str, Any]) -> str:
        """Adds a work whose right scores are known, to learn how far a judge is to be trusted; returns the
        question's id.

        Raises:
          UserError: the scores do not fit the rubric, or it is there with others.
        """
        return self._write(puts.put_gold, work, ask, scores)

    def login(self, token: str) -> str | None:
        return self.store.read(lambda connection: people.login(connection, token))

    def is_judge(self, name: str, since: float) -> bool:
        return self.store.read(lambda connection: people.is_judge(connection, name, since))

    def lease(self, judge: str, seconds: float) -> Lease | None:
        return self._write(leasing.lease, judge, seconds, self._handing)

    def renew(self, judge: str, token: str, seconds: float) -> Lease:
        return self._write(leasing.renew, judge, token, seconds)

    def give_back(self, judge: str, token: str) -> None:
        self._end(judge, token, leasing.RETURNED)

    def skip(self, judge: str, token: str) -> None:
        self._end(judge, token, leasing.SKIPPED)

    def postpone(self, judge: str, token: str) -> None:
        self._end(judge, token, leasing.POSTPONED)

    def answer(self, judge: str, token: str, given: Given) -> None:
        self._write(answers.answer, judge, token, given)

    def progress(self, judge: str) -> QueueProgress:
        gold = self._handing.gold_share > 0
        return self.store.read(lambda connection: standing.progress(self.store, connection, judge, gold))

    def agreement(self) -> JudgeAgreement:
        return self.store.read(opinions.agreement)

    def recent(self, judge: str, count: int) -> Sequence[tuple[float, float]]:
        return self.store.read(lambda connection: standing.recent(connection, judge, count))

    def close(self) -> None:
        if self._webhook is not None:
            self._webhook.close()
        self.store.close()

    def _settled(self, items: Sequence[str]) -> Sequence[str]:
        found = sa.select(tables.items.c.id).where(
            tables.items.c.id.in_(items), tables.items.c.state.in_((DONE, DROPPED)))
        try:
            return self.store.read(lambda connection: connection.scalars(found).all())
        except DatabaseFailed:  # which is told to who waits once their time is over
            return ()

    def _write(self, change: Callable[..., Any], *arguments: Any) -> Any:
        return self.store.write(lambda connection: change(self.store, connection, *arguments))

    def _end(self, judge: str, token: str, how: str) -> None:
        self.store.write(lambda connection: leasing.end(connection, judge, token, how))


def _check_id(item: str) -> None:
    if not is_name(item):
        raise KeyError(item)
