"""Several servers as one: the least loaded draws, one that fails is taken out, and what it was drawing is
drawn elsewhere.

A server that was lost comes back once it is healthy, has the present weights, and the probe agrees. A request
has one answer: that of the attempt which succeeded; what an abandoned attempt may still draw is read by
nobody.
"""
import collections
import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np

from bridges.hf.streaming import TensorSet
from bridges.servers.buckets import Fan
from bridges.servers.http import EngineError, Refused, Unavailable
from bridges.servers.launch import Process
from bridges.servers.receiver import Weights
from bridges.servers.server import DrawnSample, Server
from jaxrl_moe.types import SamplingParams

ATTEMPTS = 5           # of one request, each at a server that then failed
RETRY_SECONDS = 5.0    # between two looks at a lost server
POLL_SECONDS = 0.5
SAY_SECONDS = 30.0     # between two messages of a run that waits
# a group stays at its server while this one has no more samples than so many above the least loaded
STICKY_SAMPLES = 16
# adapters that a server holds at a time: the present one, and one that requests in flight are drawn from
ADAPTERS = 2


@dataclasses.dataclass(eq=False)
class Member:
    """A server of the pool.

    Attributes:
      process: if it was launched by us.
      lost: why it is out; empty: it is in use.
      weights: what it was last brought to.
      adapters: labels of those that it holds.
      drawing: {label: samples in flight} at it, by the weights that it had when they were begun.
      given: samples that it was ever given.
      look_at: when to look at it again, once lost.
      seconds: that its last weights took to load, and the probe.
      busy: held by who brings it to weights.
    """
    server: Server
    process: Process | None = None
    lost: str = "not brought to the first weights yet"
    weights: Weights | None = None
    adapters: list[str] = dataclasses.field(default_factory=list)
    drawing: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    given: int = 0
    look_at: float = 0.0
    seconds: tuple[float, float] = (0.0, 0.0)
    busy: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    @property
    def samples(self) -> int:
        """In flight at it."""
        return self.drawing.total()


class Pool:
    """Servers of one model.

    Args:
      members: all out of use until the first sync.
      verify: probes a server after it got weights; raises EngineError if it is wrong, Unavailable if it
        fails.
      wait_seconds: how long to wait when no server is left.
      say: tells people what happens.
      adapters: that each server has places for.
    """

    def __init__(self, members: Sequence[Member], verify: Callable[[Server, Weights], float], *,
                 wait_seconds: float = 600.0, say: Callable[[str], None] = print, adapters: int = ADAPTERS):
        self.members = list(members)
        self._verify = verify
        self._wait_seconds = wait_seconds
        self._say = say
        self._lock = threading.Lock()
        self._closed = False
        self._homes: dict[Hashable, Member] = {}     # of groups
        self._episodes: dict[Hashable, Member] = {}
        self._adapters = adapters
        self._still = False
        self.weights: Weights | None = None
        self.versions: dict[str, int] = {}  # {label: policy version} of all weights there were
        self.retries = 0  # samples drawn again after their server failed
        self.walk_seconds = 0.0  # that the last streamed weights took to be made

    @property
    def live(self) -> list[Member]:
        return [member for member in self.members if not member.lost]

    def draw(self, ids: Sequence[int], params: SamplingParams, *, seed: int, stop_ids: Sequence[int],
             group: Hashable, episode: Hashable = None) -> list[DrawnSample]:
        """params.n completions of a prompt, from one server.

        `group` is what requests with a common prefix share: they go to one server, unless it has far more to
        do than another. `episode` is what the turns of one share: they go to one server while it is in use,
        since nothing but the newest observation is new to it.

        New weights may come meanwhile; `versions` tells what a sample's labels mean. What they cut short goes
        on where it stood.

        Raises:
          Refused: no server could meet the request.
          EngineError: no server is left, or the request failed at several ones.
        """
        homes = group, episode
        samples = self._drawn(ids, params, seed, stop_ids, homes)
        return [
            self._whole(sample, ids, params, (seed, number), stop_ids, homes)
            for number, sample in enumerate(samples)
        ]

    def _whole(self, sample: DrawnSample, ids: Sequence[int], params: SamplingParams, seeds: tuple[int, ...],
               stop_ids: Sequence[int], homes: tuple[Hashable, Hashable]) -> DrawnSample:
        """The sample with what an abort left of it still to be drawn; nothing of it is drawn twice."""
        since = time.monotonic()  # when a token came last
        while sample.finish_reason == "abort":
            rest = dataclasses.replace(params, n=1, max_tokens=params.max_tokens - len(sample.ids))
            if not rest.max_tokens:
                return dataclasses.replace(sample, finish_reason="length")
            # unlike its siblings' seeds, and the one that it began with
            seed = int(np.random.SeedSequence((*seeds, len(sample.ids))).generate_state(1)[0] >> 1)
            [more] = self._drawn([*ids, *sample.ids], rest, seed, stop_ids, homes)
            if len(more.ids):
                since = time.monotonic()
            elif time.monotonic() - since > self._wait_seconds:
                raise EngineError(f"A request of {len(ids) + len(sample.ids)} tokens was aborted over and "
                                  f"over for {self._wait_seconds:g} seconds (servers.wait) without a further "
                                  "token: it may be too long for the servers' memory. Look into their logs.")
            else:
                time.sleep(POLL_SECONDS)
            sample = joined(sample, more)
        return sample

    def _drawn(self, ids: Sequence[int], params: SamplingParams, seed: int, stop_ids: Sequence[int],
               homes: tuple[Hashable, Hashable]) -> list[DrawnSample]:
        for _ in range(ATTEMPTS):
            member, weights = self._take(params.n, *homes)
            try:
                return member.server.draw(ids, params, weights=weights, seed=seed, stop_ids=stop_ids,
                                          versions=self.versions)
            except Unavailable as error:
                if self._closed:
                    raise EngineError("The servers were closed.") from error
                self._lose(member, str(error))
                last = error
                with self._lock:
                    self.retries += params.n
            finally:
                self._give_back(member, weights, params.n)
        raise EngineError(f"A request for {params.n} completions of {len(ids)} prompt tokens failed at "
                          f"{ATTEMPTS} servers, one after the other; the last one: {last}. Look into the "
                          "servers' logs: the request itself may bring them down.")

    def stand_still(self) -> None:
        """Until update() nobody brings a lost server back: the weights that it would get are on their way
        out. Who is at it is waited for."""
        self._still = True
        for member in self.members:
            with member.busy:
                pass

    def update(self, weights: Weights) -> float:
        """Brings every server that can be reached to these weights, also while others draw; returns the
        largest error of their probes.

        Raises:
          EngineError: a server has other weights than it should, or none could be brought to these within the
            time to wait.
        """
        self.versions[weights.label] = weights.version
        self.weights = weights
        self._still = False
        with self._lock:
            self._homes.clear()  # what servers know of prefixes goes with the weights
            self._episodes.clear()
        with concurrent.futures.ThreadPoolExecutor(len(self.members)) as threads:
            held = [member.server.held[1] if weights.changed_only else {} for member in self.members]
            fan = Fan(weights.walk(held), len(self.members)) if weights.walk else None
            syncs = [
                threads.submit(self._bring_up, member, reader)
                for member, reader in zip(self.members, fan.readers if fan else [None] * len(self.members))
            ]
            if fan:
                fan.run()
                self.walk_seconds = fan.seconds
            errors = [error for error in (sync.result() for sync in syncs) if error is not None]
        if not errors:
            self._await_one()
            errors = [self._verify(member.server, weights) for member in self.live]
        return max(errors, default=0.0)

    def close(self) -> None:
        """Lets waiting requests go, and stops what was launched."""
        with self._lock:
            self._closed = True  # from here on nothing is started anew
        for member in self.members:
            member.server.close()
            if member.process:
                member.process.stop()

    def _take(self, samples: int, group: Hashable, episode: Hashable = None) -> tuple[Member, Weights]:
        """The server that shall draw so many samples, reserved for them, and its weights."""
        while True:
            self._look_at_lost()
            self._await_one()
            with self._lock:
                live = self.live
                if live:
                    member = self._choose(live, group, episode)
                    member.drawing[member.weights.label] += samples
                    member.given += samples
                    return member, member.weights

    def _choose(self, live: list[Member], group: Hashable, episode: Hashable) -> Member:
        """The server that drew the episode's earlier turns; else the least loaded, or the one that knows the
        group's prefix, unless that has far more to do."""
        if episode is None:
            return self._home(live, group)
        if self._episodes.get(episode) not in live:
            self._episodes[episode] = self._home(live, group)
        return self._episodes[episode]

    def _home(self, live: list[Member], group: Hashable) -> Member:
        least = min(live, key=lambda member: (member.samples, member.given))
        home = self._homes.get(group, least)
        near = home in live and home.samples <= least.samples + STICKY_SAMPLES
        self._homes[group] = home if near else least
        return self._homes[group]

    def _give_back(self, member: Member, weights: Weights, samples: int):
        with self._lock:
            member.drawing[weights.label] -= samples
        if weights is not member.weights:
            self._unload(member, self._idle(member))

    def _lose(self, member: Member, reason: str):
        with self._lock:
            if member.lost:
                return
            member.lost = reason
            member.look_at = time.monotonic() + RETRY_SECONDS
            member.server.held = "", {}  # it gets all weights when it is back
        self._say(f"A server is taken out: {reason}. {len(self.live)} of {len(self.members)} are left; its "
                  "requests are drawn again.")

    def _look_at_lost(self):
        """Tries to bring back the lost servers whose time has come; each by one thread."""
        for member in self.members:
            if not member.lost or self.weights is None or time.monotonic(
            ) < member.look_at or not member.busy.acquire(blocking=False):
                continue
            try:
                back = member.lost and not self._still and self._bring_up_held(member) is not None
            finally:
                member.busy.release()
            if back:
                self._say(f"The server {member.server.url} is back, with the weights of version "
                          f"{member.weights.version}.")

    def _bring_up(self, member: Member, sets: Iterable[TensorSet] | None = None) -> float | None:
        with member.busy:
            return self._bring_up_held(member, sets)

    def _bring_up_held(self, member: Member, sets: Iterable[TensorSet] | None = None) -> float | None:
        """Gives a server the present weights and probes it; returns the probe's error, or None if it could
        not be reached."""
        try:
            return self._sync(member, self.weights, sets)
        finally:
            member.look_at = time.monotonic() + RETRY_SECONDS
            if sets is not None:
                sets.close()

    def _sync(self, member: Member, weights: Weights, sets: Iterable[TensorSet] | None) -> float | None:
        if member.process and not member.process.running:
            with self._lock:
                if not self._closed:
                    member.process.start()  # it takes its time to come up: one of the next looks will find it
            member.adapters.clear()
            member.server.held = "", {}
            member.lost = member.lost or "it ended and is started anew"
            return None
        try:
            if member.lost and not member.server.is_up():
                raise Unavailable(f"{member.server.url} is not healthy")
            start = time.perf_counter()
            self._load(member, weights, sets)
            loaded = time.perf_counter()
            error = self._verify(member.server, weights)
        except Refused as refusal:
            raise EngineError(f"{refusal} This was the answer to new weights in {weights.folder}: the server "
                              "must see that folder (see servers.sync_folder) and be able to load what is in "
                              "it.") from refusal
        except Unavailable as failure:
            if not member.lost:
                self._say("A server is left out, as it did not come to the weights of version "
                          f"{weights.version}: {failure}.")
            member.lost = str(failure)
            return None
        member.seconds = loaded - start, time.perf_counter() - loaded
        with self._lock:
            member.weights = weights
            member.lost = ""
        self._unload(member, self._idle(member))
        return error

    def _load(self, member: Member, weights: Weights, sets: Iterable[TensorSet] | None):
        if weights.adapter:
            # one that is there under this label would have it refused as loaded already
            self._unload(member, [label for label in member.adapters if label == weights.label])
            self._await_room(member)
            member.adapters.append(weights.label)
        member.server.load(weights, sets)

    def _await_room(self, member: Member):
        """Until so few adapters are left that one more has a place. Raises Unavailable if those in use do not
        end in time."""
        deadline = time.monotonic() + member.server.http.timeout
        while len(member.adapters) >= self._adapters:
            self._unload(member, self._idle(member))
            if time.monotonic() > deadline:
                raise Unavailable(f"{member.server.url} still draws from {member.adapters[0]}, and has no "
                                  "place for another adapter")
            if len(member.adapters) >= self._adapters:
                time.sleep(POLL_SECONDS)

    def _idle(self, member: Member) -> list[str]:
        """Adapters of earlier versions that nothing in flight is drawn from."""
        with self._lock:
            current = member.weights and member.weights.label
            return [
                label for label in member.adapters
                if label not in (current, self.weights.label) and not member.drawing[label]
            ]

    def _unload(self, member: Member, labels: list[str]):
        """Unloads adapters; one that is gone already, as after a restart, does no harm."""
        for label in labels:
            with self._lock:
                if label not in member.adapters:
                    continue  # another thread was faster
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
                raise EngineError("No server is left, and none came back within servers.wait = "
                                  f"{self._wait_seconds:g} seconds: {reasons}. Nothing of this step was "
                                  "kept. Bring the servers up and start the run again: it goes on from its "
                                  "newest checkpoint.")
            if now - said >= SAY_SECONDS:
                said = now
                self._say(f"No server is left; waiting up to {self._wait_seconds - (now - start):.0f} "
                          f"seconds more for one. {reasons}.")
            self._look_at_lost()
            time.sleep(POLL_SECONDS)


def joined(first: DrawnSample, more: DrawnSample) -> DrawnSample:
    """One sample of two, the second of which went on where the first was cut short."""
    count = len(first.ids)
    routes = more.expert_ids
    if routes is not None and first.expert_ids is not None:
        # the first sample's own routes for its tokens: those that they were drawn by
        routes = np.concatenate([first.expert_ids, routes[len(first.expert_ids):]])
    ids = np.concatenate([first.ids, more.ids])
    logprobs = np.concatenate([first.logprobs, more.logprobs])
    return DrawnSample(ids, logprobs, more.finish_reason,
                       (*first.versions, *((label, start + count, end + count)
                                           for label, start, end in more.versions)), routes)
