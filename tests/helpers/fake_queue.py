"""A queue of works in memory, for tests of the page alone. It knows no overlap, no gold items, no
blending."""
import collections
import hmac
import itertools
import secrets
import threading
import time

from jaxrl_moe.judges.queue.queue import Given, JudgeAgreement, Lease, Queue, QueueError, QueueProgress
from jaxrl_moe.judges.records import Ask, Work
from jaxrl_moe.judges.rubric import Criterion, Rubric
from jaxrl_moe.types import UserError

RUBRIC = Rubric("page", (Criterion("layout", 0.5, "bounded", "Is everything where one looks for it?"),
                         Criterion("valid", 0.3, "binary", "Does the page show what was asked for?"),
                         Criterion("taste", 0.2, "bounded", "Would you show it to somebody?")))
TOKENS = {"ada": "ada-token-0123456789abcdef", "ben": "ben-token-0123456789abcdef"}


class FakeQueue(Queue):
    """Items wait in a list.

    Attributes:
      answers: {item: {judge: what they gave}}.
      broken: calls fail while it is set, as if the database had gone.
      removed: {judge: time.time() at which they were removed and added anew}.
    """

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, Given]] = collections.defaultdict(dict)
        self.broken = False
        self.removed: dict[str, float] = {}
        self.closed = False
        self.events: list[tuple[str, str]] = []
        self._lock = threading.RLock()
        self._items: dict[str, tuple[tuple[Work, ...], Ask]] = {}
        self._leases: dict[str, Lease] = {}
        self._handed: dict[str, tuple[str, str]] = {}  # token: (judge, item), also of leases that are over
        self._seen: dict[str, set[str]] = collections.defaultdict(set)
        self._postponed: dict[str, list[str]] = collections.defaultdict(list)
        self._times: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
        self._numbers = itertools.count()

    def put(self, *works: Work, mode: str = "rubric", rubric: Rubric = RUBRIC, run: str = "run") -> str:
        item = f"item-{next(self._numbers)}"
        with self._lock:
            self._items[item] = (works, Ask(rubric, mode, run=run))
        return item

    def end_lease(self, item: str) -> None:
        """As if its time were over."""
        with self._lock:
            self._leases.pop(item)

    def login(self, token: str) -> str | None:
        found = [judge for judge, own in TOKENS.items() if hmac.compare_digest(own.encode(), token.encode())]
        return found[0] if found else None

    def is_judge(self, name: str, since: float) -> bool:
        return name in TOKENS and self.removed.get(name, 0.0) <= since

    def lease(self, judge: str, seconds: float) -> Lease | None:
        with self._lock:
            self._check()
            held = next((lease for lease in self._live() if self._handed[lease.token][0] == judge), None)
            item = held.item if held else self._next(judge)
            if item is None:
                return None
            works, ask = self._items[item]
            token = held.token if held else secrets.token_urlsafe(12)
            self._handed[token] = (judge, item)
            self._leases[item] = Lease(token, item, works, ask, time.time() + seconds)
            return self._leases[item]

    def renew(self, judge: str, token: str, seconds: float) -> Lease:
        with self._lock:
            old = self._held(judge, token)
            self.events.append(("renew", old.item))
            new = Lease(token, old.item, old.works, old.ask, time.time() + seconds)
            self._leases[old.item] = new
            return new

    def give_back(self, judge: str, token: str) -> None:
        self._return("give_back", judge, token)

    def skip(self, judge: str, token: str) -> None:
        item = self._return("skip", judge, token)
        self._seen[judge].add(item)

    def postpone(self, judge: str, token: str) -> None:
        item = self._return("postpone", judge, token)
        self._postponed[judge].append(item)

    def answer(self, judge: str, token: str, given: Given) -> None:
        with self._lock:
            self._check()
            owner, item = self._handed.get(token, ("", ""))
            if owner != judge:
                raise QueueError("There was no such lease.")
            works, ask = self._items[item]
            if ask.mode == "rubric":
                if len(given.scores) != len(works):
                    raise UserError(f"{len(given.scores)} works have scores, of {len(works)}.")
                for scores in given.scores:
                    ask.rubric.checked(scores)
            elif sorted(itertools.chain.from_iterable(given.order)) != list(range(len(works))):
                raise UserError("The order does not name each work once.")
            before = self.answers[item].setdefault(judge, given)
            if before != given:
                raise QueueError("You have answered this otherwise already.")
            self.events.append(("answer", item))
            self._times[judge].append((time.time(), given.seconds))
            if item in self._leases and self._leases[item].token == token:
                del self._leases[item]

    def progress(self, judge: str) -> QueueProgress:
        with self._lock:
            self._check()
            open_items = [item for item in self._items if not self.answers.get(item)]
            leased = [item for item in open_items if item in self._leases]
            runs = collections.Counter(self._items[item][1].run for item in open_items)
            answered = sum(judge in given for given in self.answers.values())
            return QueueProgress(len(open_items) - len(leased), len(leased), len(self._postponed[judge]),
                            len(self._items) - len(open_items), answered, runs, 42.0 * bool(open_items))

    def agreement(self) -> JudgeAgreement:
        return JudgeAgreement(4, (("ada", "ben", 0.5), ("ben", "cleo", -0.25)), 0.375,
                         {"ada": (3, 4), "ben": (0, 4)}, {"ada": float("nan")})

    def recent(self, judge: str, count: int) -> list[tuple[float, float]]:
        with self._lock:
            return self._times[judge][-count:]

    def close(self) -> None:
        self.closed = True

    def _check(self) -> None:
        if self.broken:
            raise OSError("the database has gone")

    def _live(self) -> list[Lease]:
        return [lease for lease in self._leases.values() if lease.until > time.time()]

    def _next(self, judge: str) -> str | None:
        leased = {lease.item for lease in self._live()}
        fits = [item for item in self._items if item not in leased and judge not in self.answers.get(item, ())
                and item not in self._seen[judge]]
        fresh = [item for item in fits if item not in self._postponed[judge]]
        if fresh or not fits:
            return fresh[0] if fresh else None
        self._postponed[judge].remove(fits[0])
        return fits[0]

    def _held(self, judge: str, token: str) -> Lease:
        self._check()
        held = [lease for lease in self._live() if lease.token == token]
        if not held or self._handed[token][0] != judge:
            raise QueueError("The lease is over.")
        return held[0]

    def _return(self, what: str, judge: str, token: str) -> str:
        with self._lock:
            lease = self._held(judge, token)
            self.events.append((what, lease.item))
            del self._leases[lease.item]
            return lease.item
