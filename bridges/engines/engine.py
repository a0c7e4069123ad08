"""The engine protocol over a pool of SGLang or vLLM servers; the training loop cannot tell it from the
in-process engine."""
import concurrent.futures
import itertools
import queue
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from bridges.engines.pool import ADAPTERS, Member, Pool
from bridges.engines.probe import Probe, Verifier
from bridges.engines.sync import WeightWriter
from bridges.servers.http import EngineError
from bridges.servers.server import DrawnSample
from jaxrl_moe.engine.requests import Limits
from jaxrl_moe.engine.stopping import stop_cut
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.protocols import StreamingEngine
from jaxrl_moe.types import Completion, Request

NO_PAGES = 2**40  # the servers' KV pools are their own affair
STEP_SECONDS = 0.1  # that step() waits for a request to be done


class ServerEngine(StreamingEngine):
    """A StreamingEngine whose tokens servers draw; see over_servers(), which makes one.

    Args:
      pool: the servers; closed with the engine.
      writer: puts weights where the servers read them; closed with the engine.
      verifier: compares what a server computes with the policy; the pool calls it.
      limits: what requests must satisfy.
      threads: each has a request at a server; shut down with the engine.
      seed: decides, with each request's coordinates, the seed that a server gets; whether it reproduces is up
        to the server.
      eos_ids: stop ids of every request, besides its own.
      detokenise: token ids to text, for stop strings.
    """

    def __init__(self, pool: Pool, writer: WeightWriter, verifier: Verifier, limits: Limits,
                 threads: concurrent.futures.Executor, *, seed: int, eos_ids: Sequence[int],
                 detokenise: Callable[[list[int]], str]):
        self._pool = pool
        self._writer = writer
        self._verifier = verifier
        self._limits = limits
        self._threads = threads
        self._seed = seed
        self._eos_ids = tuple(eos_ids)
        self._detokenise = detokenise
        self._tokens = 0
        self._seconds = 0.0
        self._reported = 0
        self._handles = itertools.count()
        self._flying = {}
        self._done = queue.SimpleQueue()

    @property
    def devices(self) -> frozenset:
        """None of this process's."""
        return frozenset()

    def publish(self, params: Any, version: int) -> dict[str, float]:
        """Brings all servers to these weights, and has each of them probed; returns what that took.

        Raises:
          EngineError: a server computes something else, or none can be reached: see Pool.update.
          BridgeError: the weights could not be written, as on a full disk.
        """
        start = time.perf_counter()
        old = self._pool.weights
        # who brings a lost server back would give it the old weights, and probe it by the new ones
        self._pool.stand_still()
        if old is not None and not old.adapter:
            self._writer.remove(old)  # the servers hold it by now, and two versions may not fit
        self._verifier.params = params  # also for servers that come back later
        weights = self._writer(params, version)
        written = time.perf_counter()
        error = self._pool.update(weights)
        if old is not None:
            self._writer.remove(old)
        retries = self._pool.retries - self._reported
        self._reported = self._pool.retries
        members = self._pool.live
        return {"sync/bytes": max((member.server.taken for member in members), default=0),
                "sync/write_s": self._pool.walk_seconds if weights.walk else written - start,
                "sync/load_s": max((member.seconds[0] for member in members), default=0.0),
                "sync/probe_s": max((member.seconds[1] for member in members), default=0.0),
                "sync/seconds": time.perf_counter() - start,
                "sync/probe_error": error, "sync/servers": len(members), "sync/retried_samples": retries}

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """Returns request.params.n completions for each request, in order. Raises UserError for one that
        cannot be met."""
        for request in requests:
            self._check(request)
        start = time.perf_counter()
        futures = [self._threads.submit(self._draw, request) for request in requests]
        try:
            drawn = [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()
        self._seconds += time.perf_counter() - start
        self._count(drawn)
        return drawn

    def submit(self, request: Request) -> int:
        """Sends a request to a server, once a thread is free for it. Raises UserError for one that cannot be
        met."""
        self._check(request)
        handle = next(self._handles)
        self._flying[handle] = future = self._threads.submit(self._draw, request)
        future.add_done_callback(lambda _: self._done.put(handle))
        return handle

    def step(self) -> dict[int, list[Completion]]:
        """The submitted requests that are done by now; waits a moment for the first. Raises what went wrong
        with one of them."""
        start = time.perf_counter()
        done = {}
        try:
            handle = self._done.get(timeout=STEP_SECONDS)
            while True:
                future = self._flying.pop(handle, None)
                if future is not None:  # else it was cancelled
                    done[handle] = future.result()
                handle = self._done.get_nowait()
        except queue.Empty:
            pass
        self._seconds += time.perf_counter() - start
        self._count(done.values())
        return done

    def cancel(self, handle: int) -> None:
        """Drops a request; what a server may be drawing of it is read by nobody."""
        future = self._flying.pop(handle, None)
        if future is not None:
            future.cancel()

    def cut(self, handle: int) -> None:
        """Nothing: servers hand out no part of what they are drawing."""

    def _check(self, request: Request) -> None:
        if self._pool.weights is None:
            raise EngineError("The servers have no weights of the policy yet: call publish() first.")
        self._limits.check(request)

    def _count(self, drawn: Iterable[list[Completion]]) -> None:
        self._tokens += sum(len(completion.ids) for completions in drawn for completion in completions)

    def release(self) -> None:
        """Nothing to free: the servers' memory is not the trainer's."""

    def stats(self) -> dict[str, float]:
        """Totals since the engine was made. What top-p and its like leave of a distribution no server
        tells."""
        return {
            "tokens": self._tokens,
            "seconds": self._seconds,
            "tokens_per_s": self._tokens / max(self._seconds, 1e-9),
            "retried_samples": self._pool.retries,
            "servers": len(self._pool.live)
        }

    def close(self) -> None:
        """Stops the servers that were launched, and removes the weights from the disk."""
        self._pool.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._writer.close()

    def _draw(self, request: Request) -> list[Completion]:
        stop_ids = tuple(dict.fromkeys((*self._eos_ids, *request.params.stop_ids)))
        group = request.stream, request.sequence
        episode = *group, request.sample
        # 31 bits, as servers take them
        entropy = np.random.SeedSequence((self._seed, *episode, request.turn))
        seed = int(entropy.generate_state(1)[0] >> 1)
        samples = self._pool.draw(request.ids.tolist(), request.params, seed=seed, stop_ids=stop_ids,
                                  group=group, episode=episode)
        return [self._completion(sample, request) for sample in samples]

    def _completion(self, sample: DrawnSample, request: Request) -> Completion:
        """The sample, cut behind the first stop string: servers end on one, but some tokens later."""
        keep = len(sample.ids)
        reason = sample.finish_reason
        strings = request.params.stop_strings
        if strings:
            stopped = stop_cut(sample.ids.tolist(), 0, strings, self._detokenise)
            keep, reason = (keep, reason) if stopped is None else (stopped, "stop")
        routes = None if sample.expert_ids is None else sample.expert_ids[:len(request.ids) + keep - 1]
        versions = [
            np.full(end - start, self._pool.versions[label], np.int32)
            for label, start, end in sample.versions
        ]
        return Completion(sample.ids[:keep], sample.logprobs[:keep], reason,
                          np.concatenate(versions)[:keep], routes)


def over_servers(members: Sequence[Member], writer: WeightWriter, probe: Probe, *, config: ModelConfig,
                 context: int, concurrency: int, seed: int, eos_ids: Sequence[int],
                 detokenise: Callable[[list[int]], str], wait_seconds: float = 600.0,
                 adapters: int = ADAPTERS) -> ServerEngine:
    """Puts an engine over servers together.

    Args:
      members: the servers.
      writer, seed, eos_ids, detokenise: see ServerEngine.
      probe: compares what a server computes with the policy.
      config: of the policy.
      context: most tokens that every server takes.
      concurrency: requests in flight at each server.
      wait_seconds, adapters: see Pool.
    """
    verifier = Verifier(probe)
    pool = Pool(members, verifier, wait_seconds=wait_seconds, adapters=adapters)
    limits = Limits(config, 1, NO_PAGES, has_text=True, context=context)
    threads = concurrent.futures.ThreadPoolExecutor(concurrency * len(members), "rollout")
    return ServerEngine(pool, writer, verifier, limits, threads, seed=seed, eos_ids=eos_ids,
                        detokenise=detokenise)
