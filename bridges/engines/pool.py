"""Several servers as one: the least loaded draws, one that fails is taken out, and what it was drawing is drawn elsewhere.

A server that was lost comes back once it is healthy, has the present weights, and the probe agrees. A request has one answer: that
of the attempt which succeeded; what an abandoned attempt may still draw is read by nobody.
"""
import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

from bridges.engines.http import EngineError, Refused, Unavailable
from bridges.engines.launch import Process
from bridges.engines.server import Sample, Server, Weights
from jaxrl_moe.types import SamplingParams

ATTEMPTS = 5           # of one request, each at a server that then failed
RETRY_SECONDS = 5.0    # between two looks at a lost server
POLL_SECONDS = 0.5
SAY_SECONDS = 30.0     # between two messages of a run that waits
STICKY_SAMPLES = 16    # a group stays at its server while this one has no more samples than so many above the least loaded


@dataclasses.dataclass(eq=False)
class Member:
    """A server of the pool.

    Attributes:
      process: if it was launched by us.
      lost: why it is out; empty: it is in use.
      adapters: labels of those that it holds.
      samples: in flight at it.
      given: samples that it was ever given.
      look_at: when to look at it again, once lost.
      busy: somebody is just bringing it back.
    """
    server: Server
    process: Process | None = None
    lost: str = "not brought to the first weights yet"
    adapters: list[str] = dataclasses.field(default_factory=list)
    samples: int = 0
    given: int = 0
    look_at: float = 0.0
    busy: bool = False


class Pool:
    """Servers of one model.

    Args:
      members: all out of use until the first sync.
      verify: probes a server after it got weights; raises EngineError if it is wrong, Unavailable if it fails.
      wait_seconds: how long to wait when no server is left.
      say: tells people what happens.
    """

    def __init__(self, members: Sequence[Member], verify: Callable[[Server, Weights], float], *, wait_seconds: float = 600.0,
                 say: Callable[[str], None] = print):
        self.members, self._verify, self._wait_seconds, self._say = list(members), verify, wait_seconds, say
        self._lock, self._closed, self._homes = threading.Lock(), False, {}
        self.weights: Weights | None = None
        self.retries = 0  # samples drawn again after their server failed

    @property
    def live(self) -> list[Member]:
        return [member for member in self.members if not member.lost]

    def draw(self, ids: Sequence[int], params: SamplingParams, *, seed: int, stop_ids: Sequence[int], group: object) -> list[Sample]:
        """params.n completions of a prompt, from one server; `group` is what requests with a common prefix share.

        Raises:
          Refused: no server could meet the request.
          EngineError: no server is left, or the request failed at several ones.
        """
        for _ in range(ATTEMPTS):
            member = self._take(params.n, group)
            try:
                return member.server.draw(ids, params, weights=self.weights, seed=seed, stop_ids=stop_ids)
            except Unavailable as error:
                if self._closed:
                    raise EngineError("The servers were closed.") from error
                self._lose(member, str(error))
                last = error
                with self._lock:
                    self.retries += params.n
            finally:
                self._give_back(member, params.n)
        raise EngineError(f"A request for {params.n} completions of {len(ids)} prompt tokens failed at {ATTEMPTS} servers, one after the "
                          f"other; the last one: {last}. Look into the servers' logs: the request itself may bring them down.")

    def update(self, weights: Weights) -> float:
        """Brings every server that can be reached to these weights; returns the largest error of their probes.

        Raises:
          EngineError: a server has other weights than it should, or none could be brought to these within the time to wait.
        """
        self.weights = weights
        self._homes.clear()
        with concurrent.futures.ThreadPoolExecutor(len(self.members)) as threads:
            errors = [error for error in threads.map(self._bring_up, self.members) if error is not None]
        if not errors:
            self._await_one()
            errors = [self._verify(member.server, weights) for member in self.live]
        return max(errors, default=0.0)

    def close(self) -> None:
        """Lets waiting requests go, and stops what was launched."""
        with self._lock:
            self._closed = True  # from here on nothing is started anew
        for member in self.members:
            member.server.http.close()
            if member.process:
                member.process.stop()

    def _take(self, samples: int, group: object) -> Member:
        """The server that shall draw so many samples, reserved for them."""
        while True:
            self._look_at_lost()
            self._await_one()
            with self._lock:
                live = self.live
                if live:
                    member = self._choose(live, group)
                    member.samples += samples
                    member.given += samples
                    return member

    def _choose(self, live, group) -> Member:
        """The least loaded server, or the one that knows the group's prefix, unless that has far more to do."""
        least = min(live, key=lambda member: (member.samples, member.given))
        home = self._homes.get(group, least)
        self._homes[group] = home if home in live and home.samples <= least.samples + STICKY_SAMPLES else least
        return self._homes[group]

    def _give_back(self, member, samples):
        with self._lock:
            member.samples -= samples

    def _lose(self, member, reason):
        with self._lock:
            if member.lost:
                return
            member.lost, member.look_at = reason, time.monotonic() + RETRY_SECONDS
        self._say(f"A server is taken out: {reason}. {len(self.live)} of {len(self.members)} are left; its requests are drawn again.")

    def _look_at_lost(self):
        """Tries to bring back the lost servers whose time has come; each by one thread."""
        for member in self.members:
            with self._lock:
                due = bool(member.lost) and not member.busy and self.weights is not None and time.monotonic() >= member.look_at
                member.busy |= due
            if due and self._bring_up(member) is not None:
                self._say(f"The server {member.server.url} is back, with the weights of version {self.weights.version}.")

    def _bring_up(self, member) -> float | None:
        """Gives a server the present weights and probes it; returns the probe's error, or None if it could not be reached."""
        try:
            return self._sync(member, self.weights)
        finally:
            member.look_at, member.busy = time.monotonic() + RETRY_SECONDS, False

    def _sync(self, member, weights) -> float | None:
        if member.process and not member.process.running:
            with self._lock:
                if not self._closed:
                    member.process.start()  # it takes its time to come up: one of the next looks will find it
            member.adapters.clear()
            member.lost = member.lost or "it ended and is started anew"
            return None
        try:
            if member.lost and not member.server.is_up():
                raise Unavailable(f"{member.server.url} is not healthy")
            self._load(member, weights)
            error = self._verify(member.server, weights)
        except Refused as refusal:
            raise EngineError(f"{refusal} This was the answer to new weights in {weights.folder}: the server must see that folder (see "
                              "servers.sync_folder) and be able to load what is in it.") from refusal
        except Unavailable as failure:
            member.lost = str(failure)
            return None
        member.lost = ""
        self._unload(member, [label for label in member.adapters if label != weights.label])
        return error

    def _load(self, member, weights):
        if weights.adapter:
            self._unload(member, [label for label in member.adapters if label == weights.label])  # or it is refused as loaded already
            member.adapters.append(weights.label)
        member.server.load(weights)

    def _unload(self, member, labels):
        """Unloads adapters; one that is gone already, as after a restart, does no harm."""
        for label in labels:
            member.adapters.remove(label)
            try:
                member.server.unload(label)
            except (EngineError, Unavailable) as error:
                self._say(f"The adapter {label} could not be unloaded: {error}")

    def _await_one(self):
        """Waits until a server is in use; at once if one is.

        Raises:
          EngineError: none came back in time.
        """
        start = time.monotonic()
        said = start - SAY_SECONDS
        while not self.live:
            now = time.monotonic()
            reasons = "; ".join(dict.fromkeys(member.lost for member in self.members))
            if self._closed or now - start > self._wait_seconds:
                raise EngineError(f"No server is left, and none came back within servers.wait = {self._wait_seconds:g} seconds: {reasons}. "
                                  "Nothing of this step was kept. Bring the servers up and start the run again: it goes on from its "
                                  "newest checkpoint.")
            if now - said >= SAY_SECONDS:
                said = now
                self._say(f"No server is left; waiting up to {self._wait_seconds - (now - start):.0f} seconds more for one. {reasons}.")
            self._look_at_lost()
            time.sleep(POLL_SECONDS)
