"""The in-process engine: draws completions from the trainer's own arrays by continuous batching over a paged KV pool."""
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxrl_moe.distributed import hosts
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.model.cache import TRASH_PAGE
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.rollout import batches, memory, results
from jaxrl_moe.rollout.pages import PagePool, pages_for
from jaxrl_moe.rollout.programs import Programs
from jaxrl_moe.rollout.requests import Limits, truncates
from jaxrl_moe.rollout.scheduler import Scheduler
from jaxrl_moe.rollout.sequences import Chunk, Group
from jaxrl_moe.rollout.stats import Totals
from jaxrl_moe.types import Completion, Request


class JaxEngine:
    """An Engine (see types.py) inside this process. Not thread-safe: one thread drives it.

    Args:
      model: the policy; its arrays are used as they are, not copied.
      settings: slots, page_size, kv_tokens, memory_fraction, decode_steps and max_tokens as in config.RolloutSection.
      max_prompt_tokens: longest prompt that the default pool is sized for; see memory.pool_pages. What else stays in the
        device's memory during a rollout should be there already.
      seed: decides, with each request's coordinates, the noise of every token.
      eos_ids: stop ids of every request, besides its own.
      detokenise: token ids to text; needed for stop strings only.
      placement: the mesh that the model's arrays lie on, or None for a single device.
    """

    def __init__(self, model: Transformer, settings, *, max_prompt_tokens: int, seed: int = 0,
                 eos_ids: Sequence[int] = (), detokenise: Callable[[list[int]], str] | None = None,
                 placement: Placement | None = None):
        graphdef, self._params = nnx.split(model)
        self._config, self._dtype = model.config, model.dtype
        self._settings, self._eos_ids, self._detokenise = settings, tuple(eos_ids), detokenise
        self._programs = Programs(graphdef, seed, settings.decode_steps, model.config.expert_dtype, placement)
        self._token_bytes = memory.token_bytes(self._config, self._dtype, placement)
        device = next(iter(jax.tree.leaves(self._params)[0].sharding.addressable_devices))
        pages = memory.pool_pages(settings, max_prompt_tokens, self._token_bytes, memory.free_bytes(device))
        self._num_pages = hosts.smallest(pages)  # all processes plan alike
        self._limits = Limits(model.config, settings.page_size, self._num_pages - 1, detokenise is not None)
        self._version, self._handles, self._cache = 0, itertools.count(), None
        self._max_prompt_tokens, self._totals = max_prompt_tokens, Totals()
        self._forget()

    @property
    def kv_bytes(self) -> int:
        """Bytes of the KV pool while it is held."""
        return self._num_pages * self._settings.page_size * self._token_bytes

    @property
    def devices(self) -> set[jax.Device]:
        """Where the weights lie that it draws from."""
        return jax.tree.leaves(self._params)[0].sharding.device_set

    @property
    def slots(self) -> int:
        """Samples that are drawn at once."""
        return self._settings.slots

    @property
    def context(self) -> int:
        """Most tokens of a prompt with its completion, in a request of any n."""
        return self._limits.longest

    def publish(self, params: Any, version: int) -> None:
        """Draws from these weights (the nnx.State of a like model) from now on. Sequences in flight go on with them, over the keys and
        values of the earlier ones; after release() they are prefilled with the new ones."""
        self._params, self._version = params, version
        self._scheduler.drop_held()
        for sequence in self._scheduler.queue:  # their prompts are prefilled anew, and may take other routes
            sequence.group.prompt_routes = None

    def release(self) -> None:
        """Frees the KV pool. Sequences in flight keep their tokens and are prefilled again when work goes on."""
        self._scheduler.suspend()
        if self._cache is not None:
            jax.tree.map(lambda part: part.delete(), self._cache)
            self._cache = None

    def close(self) -> None:
        """Frees the KV pool; there is nothing else to end."""
        self.release()

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """Returns request.params.n completions for each request, in order, as an idle engine does: what was submitted before waits,
        keeps its tokens and is prefilled again. Raises UserError for a request that cannot be met."""
        for request in requests:
            self.check(request)
        with self._aside() if self._scheduler.running or self._scheduler.queue else contextlib.nullcontext():
            handles, done = [self.submit(request) for request in requests], {}
            while len(done) < len(handles):
                done.update(self.step())
        return [done[handle] for handle in handles]

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """Within it nothing is in flight; afterwards is what was. An error within drops all, as in step()."""
        self.release()
        waiting = self._scheduler
        self._forget()
        yield
        self.release()
        self._scheduler = waiting

    def check(self, request: Request, name: str = "") -> None:
        """Raises UserError for a request that cannot be met, under a name of its own. Any thread may ask."""
        self._limits.check(request, name)

    def submit(self, request: Request, listen: Callable[[Chunk], None] | None = None) -> int:
        """Queues a request and returns its handle; step() does the work. Raises UserError for one that cannot be met.

        Args:
          listen: called inside step() with the tokens that it drew for a sample; it must not raise.
        """
        self.check(request)
        handle, stop_ids = next(self._handles), dict.fromkeys((*self._eos_ids, *request.params.stop_ids))
        self._scheduler.add(Group(handle, request, tuple(stop_ids), listen))
        return handle

    def cancel(self, handle: int) -> None:
        """Drops a request with what it has drawn; its slots and pages are free for others. One that is done is left alone."""
        self._scheduler.cancel(handle)

    def cut(self, handle: int) -> list[Completion] | None:
        """Ends a request: what its samples have drawn so far are its completions, as if the token limit had come there.

        Returns:
          The completions; None, with nothing done, if it has a sample without a token, or is done already.
        """
        samples = self._scheduler.samples(handle)
        if not samples or any(sequence.drawn == 0 for sequence in samples):
            return None
        completions = samples[0].group.completions | {one.sample: one.completion(one.drawn, "length") for one in samples}
        self.cancel(handle)
        return [completions[sample] for sample in range(len(completions))]

    def step(self) -> dict[int, list[Completion]]:
        """Admits what fits and draws one chunk of tokens; returns the requests that this finished, by handle."""
        start = time.perf_counter()
        try:
            finished = self._step()
        except BaseException:
            self._forget()
            raise
        self._totals.seconds += time.perf_counter() - start
        return finished

    def warmup(self, *, truncate: bool = False, routes: bool = False) -> int:
        """Compiles every shape that unpreempted requests within max_prompt_tokens and max_tokens can take, and returns
        how many that were. Without it shapes compile at their first use.

        Args:
          truncate: for requests with top-p, top-k or min-p.
          routes: for requests that return routed experts.
        """
        before, size, slots = self._programs.compiles, self._settings.page_size, self._settings.slots
        self._reserve()
        for batch in batches.prefill_shapes(self._max_prompt_tokens - 1, slots, size):
            self._cache, _ = self._programs.prefill(self._params, self._cache, *batch[1:], routes=routes)
        pages = pages_for(self._max_prompt_tokens + self._settings.max_tokens - 1, size)
        for rows in batches.decode_shapes(slots, pages, size):
            self._cache, _ = self._programs.decode(self._params, self._cache, rows, truncate=truncate, routes=routes)
        self._copy([(TRASH_PAGE, TRASH_PAGE)])
        return self._programs.compiles - before

    def stats(self) -> dict[str, float]:
        """Totals since the engine was made, and what the pool holds now."""
        return self._totals.summary(self._settings.slots) | {
            "preemptions": self._scheduler.preemptions, "compiles": self._programs.compiles,
            "kv_bytes": self.kv_bytes, "kv_tokens": (self._num_pages - 1) * self._settings.page_size,
            "kv_pages_used": self._scheduler.pool.num_used}

    def _forget(self):
        """Drops all requests and the pool: the state of a new engine, but for totals and compiled programs."""
        pool, self._cache = PagePool(self._num_pages), None
        self._scheduler = Scheduler(pool, self._settings.page_size, self._settings.slots, self._settings.decode_steps)

    def _reserve(self):
        """Takes the KV pool's memory, if it was released."""
        if self._cache is None:
            self._cache = self._programs.empty_cache(self._config, self._num_pages, self._settings.page_size, self._dtype)

    def _step(self):
        if not self._scheduler.running and not self._scheduler.queue:
            return {}
        self._reserve()
        plan = self._scheduler.plan()
        routes = self._prefill(plan.prefills)
        self._copy(plan.copies)
        running = list(self._scheduler.running)
        out, routes = hosts.fetch((self._decode(running), routes))
        results.note_routes(routes)
        return self._collect(running, out)

    def _prefill(self, jobs):
        """Runs the planned prefills; returns (job groups, row lengths, expert ids on the device) of each call that gives ids."""
        wanted, calls = any(job.group is not None for job in jobs), []
        for batch in batches.prefill_batches(jobs, self._settings.page_size):
            self._cache, ids_UTLA = self._programs.prefill(
                self._params, self._cache, batch.tokens_UT, batch.positions_UT, batch.pages_UJ, routes=wanted)
            lengths = (batch.positions_UT >= 0).sum(axis=1)
            self._totals.prefill_tokens += int(lengths.sum())
            if wanted:
                calls.append(([job.group for job in batch.jobs], lengths, ids_UTLA))
        return calls

    def _copy(self, copies):
        for first in range(0, len(copies), self._settings.slots):
            part = copies[first:first + self._settings.slots]
            part = np.array(part + [(TRASH_PAGE, TRASH_PAGE)] * (self._settings.slots - len(part)), np.int32)
            self._cache = self._programs.copy_pages(self._cache, part[:, 0], part[:, 1])

    def _decode(self, running):
        params = [sequence.group.request.params for sequence in running]
        self._cache, out = self._programs.decode(
            self._params, self._cache, batches.decode_rows(running, self._settings.slots, self._settings.page_size),
            truncate=any(map(truncates, params)), routes=any(p.return_routed_experts for p in params))
        return out

    def _collect(self, running, out):
        """Hands each sequence its tokens; returns the groups that are complete."""
        results.refuse_non_finite(out, self._version)
        counts_U = (out["tokens_SU"] >= 0).sum(axis=0)
        self._totals.add_chunk(len(running), int(counts_U.sum()), float(out["kept_U"].sum()))
        finished = {}
        for row, sequence in enumerate(running):
            group, before = sequence.group, sequence.drawn
            completion = results.take(sequence, out, row, counts_U[row], self._version, self._detokenise)
            if group.listen is not None:
                group.listen(sequence.chunk(before, completion))
            if completion is not None:
                self._scheduler.finish(sequence)
                group.completions[sequence.sample] = completion
                if len(group.completions) == group.request.params.n:
                    finished[group.handle] = [group.completions[sample] for sample in range(group.request.params.n)]
        return finished
