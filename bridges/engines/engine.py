"""The engine protocol over a pool of SGLang or vLLM servers; the training loop cannot tell it from the in-process engine."""
import concurrent.futures
import dataclasses
import itertools
import queue
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from bridges.engines.pool import ADAPTERS, Member, Pool
from bridges.engines.probe import Probe
from bridges.engines.sync import Writer
from bridges.servers.http import EngineError, Unavailable
from bridges.servers.receiver import Weights
from bridges.servers.server import Sample, Server
from jaxrl_moe.engine.requests import Limits
from jaxrl_moe.engine.stopping import stop_cut
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.types import Completion, Request

NO_PAGES = 2**40  # the servers' KV pools are their own affair
STEP_SECONDS = 0.1  # that step() waits for a request to be done


class ServerEngine:
    """An Engine (see types.py) whose tokens servers draw.

    Args:
      members: the servers.
      writer: puts weights where the servers read them.
      probe: compares what a server computes with the policy.
      config: of the policy.
      context: most tokens that every server takes.
      concurrency: requests in flight at each server.
      seed: decides, with each request's coordinates, the seed that a server gets; whether it reproduces is up to the server.
      eos_ids: stop ids of every request, besides its own.
      detokenise: token ids to text, for stop strings.
      wait_seconds, adapters: see Pool.
    """

    def __init__(self, members: Sequence[Member], writer: Writer, probe: Probe, *, config: ModelConfig, context: int, concurrency: int,
                 seed: int, eos_ids: Sequence[int], detokenise: Callable[[list[int]], str], wait_seconds: float = 600.0,
                 adapters: int = ADAPTERS):
        self._pool = Pool(members, self._verify, wait_seconds=wait_seconds, adapters=adapters)
        self._writer, self._probe, self._seed, self._params = writer, probe, seed, None
        self._eos_ids, self._detokenise = tuple(eos_ids), detokenise
        config = dataclasses.replace(config, max_position_embeddings=min(config.max_position_embeddings, context))
        self._limits = Limits(config, 1, NO_PAGES, has_text=True)
        self._threads = concurrent.futures.ThreadPoolExecutor(concurrency * len(members), "rollout")
        self._tokens, self._seconds, self._reported = 0, 0.0, 0
        self._handles, self._flying, self._done = itertools.count(), {}, queue.SimpleQueue()

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
        start, old = time.perf_counter(), self._pool.weights
        self._pool.stand_still()  # who brings a lost server back would give it the old weights, and probe it by the new ones
        if old is not None and not old.adapter:
            self._writer.remove(old)  # the servers hold it by now, and two versions may not fit
        self._params = params  # for the probe, also of servers that come back later
        weights = self._writer(params, version)
        written = time.perf_counter()
        error = self._pool.update(weights)
        if old is not None:
            self._writer.remove(old)
        retries, self._reported = self._pool.retries - self._reported, self._pool.retries
        members = self._pool.live
        return {"sync/bytes": max((member.server.taken for member in members), default=0),
                "sync/write_s": self._pool.walk_seconds if weights.walk else written - start,
                "sync/load_s": max((member.seconds[0] for member in members), default=0.0),
                "sync/probe_s": max((member.seconds[1] for member in members), default=0.0),
                "sync/seconds": time.perf_counter() - start,
                "sync/probe_error": error, "sync/servers": len(members), "sync/retried_samples": retries}

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """Returns request.params.n completions for each request, in order. Raises UserError for one that cannot be met."""
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
        """Sends a request to a server, once a thread is free for it. Raises UserError for one that cannot be met."""
        self._check(request)
        handle = next(self._handles)
        self._flying[handle] = future = self._threads.submit(self._draw, request)
        future.add_done_callback(lambda _: self._done.put(handle))
        return handle

    def step(self) -> dict[int, list[Completion]]:
        """The submitted requests that are done by now; waits a moment for the first. Raises what went wrong with one of them."""
        start, done = time.perf_counter(), {}
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

    def _check(self, request):
        if self._pool.weights is None:
            raise EngineError("The servers have no weights of the policy yet: call publish() first.")
        self._limits.check(request)

    def _count(self, drawn):
        self._tokens += sum(len(completion.ids) for completions in drawn for completion in completions)

    def release(self) -> None:
        """Nothing to free: the servers' memory is not the trainer's."""

    def stats(self) -> dict[str, float]:
        """Totals since the engine was made. What top-p and its like leave of a distribution no server tells."""
        return {"tokens": self._tokens, "seconds": self._seconds, "tokens_per_s": self._tokens / max(self._seconds, 1e-9),
                "retried_samples": self._pool.retries, "servers": len(self._pool.live)}

    def close(self) -> None:
        """Stops the servers that were launched, and removes the weights from the disk."""
        self._pool.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._writer.close()

    def _verify(self, server: Server, weights: Weights) -> float:
        later = f"{server.url} comes back with the next weights: training has gone on, and cannot probe the present ones"
        if self._gone():
            raise Unavailable(later)
        try:
            return self._probe(server, self._params, weights)
        except RuntimeError as error:
            if self._gone():  # an update of another thread took the arrays meanwhile
                raise Unavailable(later) from error
            raise

    def _gone(self):
        """Whether training has taken the weights that were published last."""
        return any(leaf.is_deleted() for leaf in jax.tree.leaves(self._params) if hasattr(leaf, "is_deleted"))

    def _draw(self, request: Request) -> list[Completion]:
        stop_ids = tuple(dict.fromkeys((*self._eos_ids, *request.params.stop_ids)))
        coordinates = self._seed, request.stream, request.sequence, request.turn
        seed = int(np.random.SeedSequence(coordinates).generate_state(1)[0] >> 1)  # 31 bits, as servers take them
        samples = self._pool.draw(request.ids.tolist(), request.params, seed=seed, stop_ids=stop_ids,
                                  group=(request.stream, request.sequence))
        return [self._completion(sample, request) for sample in samples]

    def _completion(self, sample: Sample, request: Request) -> Completion:
        """The sample, cut behind the first stop string: servers end on one, but some tokens later."""
        keep, reason, strings = len(sample.ids), sample.finish_reason, request.params.stop_strings
        if strings:
            found = stop_cut(sample.ids.tolist(), 0, strings, self._detokenise)
            keep, reason = (keep, reason) if found is None else (found, "stop")
        routes = None if sample.expert_ids is None else sample.expert_ids[:len(request.ids) + keep - 1]
        versions = [np.full(end - start, self._pool.versions[label], np.int32) for label, start, end in sample.versions]
        return Completion(sample.ids[:keep], sample.logprobs[:keep], reason, np.concatenate(versions)[:keep], routes)
