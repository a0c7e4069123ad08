"""The in-process engine: draws completions from the trainer's own arrays by continuous batching over a paged
KV pool."""
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxrl_moe.config import RolloutSection
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.distributed.transfer import Transfer
from jaxrl_moe.engine import batches, memory, results
from jaxrl_moe.engine.pages import pages_for
from jaxrl_moe.engine.programs import EnginePrograms
from jaxrl_moe.engine.requests import Limits
from jaxrl_moe.engine.scheduler import ChunkPlan, Prefill
from jaxrl_moe.engine.sequences import Chunk, RequestGroup
from jaxrl_moe.engine.shards import Shards
from jaxrl_moe.engine.stats import Totals
from jaxrl_moe.hosts import hosts
from jaxrl_moe.model.cache import TRASH_PAGE
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.phases import longest_sequence
from jaxrl_moe.protocols import StreamingEngine
from jaxrl_moe.types import Completion, Request


class JaxEngine(StreamingEngine):
    """A StreamingEngine inside this process. Not thread-safe: one thread drives it.

    On a mesh the rows that are decoded, and the KV pool, are split over data and fsdp: see Shards and
    EnginePrograms.

    Args:
      model: the policy; its arrays are used as they are if they lie on the placement's devices, else copied
        there.
      settings: slots, page_size, kv_tokens, memory_fraction, decode_steps and max_tokens as in
        config.RolloutSection. Slots that the parts of the rows do not divide are rounded up.
      max_prompt_tokens: longest prompt that the default pool is sized for; see memory.pool_pages. What else
        stays in the device's memory during a rollout should be there already.
      seed: decides, with each request's coordinates, the noise of every token.
      eos_ids: stop ids of every request, besides its own.
      detokenise: token ids to text; needed for stop strings only.
      placement: the mesh to draw on, or None for the single device of the model's arrays. These are laid out
        on the mesh, or lie on none of its devices.
    """

    def __init__(self, model: Transformer, settings: RolloutSection, *, max_prompt_tokens: int, seed: int = 0,
                 eos_ids: Sequence[int] = (), detokenise: Callable[[list[int]], str] | None = None,
                 placement: Placement | None = None):
        graphdef, params = nnx.split(model)
        self._transfer = None
        if placement is not None and not jax.tree.leaves(params)[0].devices() & set(
                placement.mesh.devices.flat):
            self._transfer = Transfer(placement, model.config.vocab_size)
        self._params, _ = self._here(params)
        self._config = model.config
        self._dtype = model.dtype
        self._settings = settings
        self._eos_ids = tuple(eos_ids)
        self._detokenise = detokenise
        self._programs = EnginePrograms(graphdef, seed, settings.decode_steps, model.config.expert_dtype,
                                        placement)
        self._shards = 1 if placement is None else placement.drawn_shards
        self._token_bytes = memory.token_bytes(self._config, self._dtype, placement)
        self._slots = memory.slots_of_each(settings.slots, self._shards)
        device = next(iter(jax.tree.leaves(self._params)[0].sharding.addressable_devices))
        pages = memory.pool_pages(settings, max_prompt_tokens, self._token_bytes, memory.free_bytes(device),
                                  self._shards)
        self._num_pages = hosts.smallest(pages)  # all processes plan alike
        self._limits = Limits(model.config, settings.page_size, self._num_pages - 1, detokenise is not None)
        self._version = 0
        self._handles = itertools.count()
        self._cache = None
        self._max_prompt_tokens = max_prompt_tokens
        self._totals = Totals()
        self._start_anew()

    @property
    def kv_bytes(self) -> int:
        """Bytes of the KV pool on each device, while it is held."""
        return self._num_pages * self._settings.page_size * self._token_bytes

    @property
    def devices(self) -> set[jax.Device]:
        """Where the weights lie that it draws from."""
        return jax.tree.leaves(self._params)[0].sharding.device_set

    @property
    def slots(self) -> int:
        """Samples that are drawn at once, on all devices together."""
        return self._slots * self._shards

    @property
    def context(self) -> int:
        """Most tokens of a prompt with its completion, in a request of any n."""
        return self._limits.longest

    def publish(self, params: Any, version: int) -> dict[str, float] | None:
        """Draws from these weights (the nnx.State of a like model) from now on. Sequences in flight go on
        with them, over the keys and values of the earlier ones, which no other sequence finds from now on;
        after release() they are prefilled with the new ones.

        Where training shares the devices, these very arrays are drawn from: they must live until the next
        publish or as long as no step() is called, and an update that donates them makes them unusable. Where
        rollout has devices of its own they are copied, as far as they changed, before this returns; training
        may then donate its arrays while step() draws from the copies. It must not run inside step(): another
        thread calls it between two.

        Returns:
          sync/bytes that reached the rollout's devices, and sync/move_s; None where nothing had to be
            moved.
        """
        self._params, figures = self._here(params)
        self._version = version
        self._work.forget()
        return figures

    def release(self) -> None:
        """Frees the KV pool with all that is kept in it. Sequences in flight keep their tokens and are
        prefilled again when work goes on."""
        self._work.suspend()
        if self._cache is not None:
            jax.tree.map(lambda array: array.delete(), self._cache)
            self._cache = None

    def forget(self) -> None:
        """Gives up the keys and values that are kept for later requests, as after other weights: what is
        drawn next has the bits that a new engine would give it."""
        self._work.forget()

    def close(self) -> None:
        """Frees the KV pool; there is nothing else to end."""
        self.release()

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """Returns request.params.n completions for each request, in order, as an idle engine does: what was
        submitted before waits, keeps its tokens and is prefilled again. Keys and values are shared among
        these requests alone, so that the bits follow from them alone. Raises UserError for a request that
        cannot be met."""
        for request in requests:
            self.check(request)
        with self._work.aside():
            handles = [self.submit(request) for request in requests]
            done = {}
            while len(done) < len(handles):
                done.update(self.step())
        return [done[handle] for handle in handles]

    def check(self, request: Request, name: str = "") -> None:
        """Raises UserError for a request that cannot be met, under a name of its own. Any thread may ask."""
        self._limits.check(request, name)

    def submit(self, request: Request, listen: Callable[[Chunk], None] | None = None) -> int:
        """Queues a request and returns its handle; step() does the work. Raises UserError for one that cannot
        be met.

        Args:
          listen: called inside step() with the tokens that it drew for a sample; it must not raise.
        """
        self.check(request)
        handle = next(self._handles)
        stop_ids = dict.fromkeys((*self._eos_ids, *request.params.stop_ids))
        self._work.add(RequestGroup(handle, request, tuple(stop_ids), listen))
        return handle

    def cancel(self, handle: int) -> None:
        """Drops a request with what it has drawn; its slots and pages are free for others. One that is done
        is left alone."""
        self._work.cancel(handle)

    def cut(self, handle: int) -> list[Completion] | None:
        """Ends a request: what its samples have drawn so far are its completions, as if the token limit had
        come there.

        Returns:
          The completions; None, with nothing done, if it has a sample without a token, or is done already.
        """
        samples = self._work.samples(handle)
        if not samples or any(sequence.drawn == 0 for sequence in samples):
            return None
        cut = {sequence.sample: sequence.completion(sequence.drawn, "length") for sequence in samples}
        completions = samples[0].group.completions | cut
        self.cancel(handle)
        return [completions[sample] for sample in range(len(completions))]

    def step(self) -> dict[int, list[Completion]]:
        """Admits what fits and draws one chunk of tokens; returns the requests that this finished, by
        handle."""
        start = time.perf_counter()
        try:
            finished = self._step()
        except BaseException:
            self._start_anew()
            raise
        self._totals.seconds += time.perf_counter() - start
        return finished

    def warmup(self, *, truncate: bool = False, routes: bool = False) -> int:
        """Compiles every shape that unpreempted requests within max_prompt_tokens and max_tokens can take,
        and returns how many that were. Without it shapes compile at their first use.

        Args:
          truncate: for requests with top-p, top-k or min-p.
          routes: for requests that return routed experts.
        """
        before = self._programs.compiles
        size = self._settings.page_size
        self._reserve()
        for batch in batches.prefill_shapes(self._max_prompt_tokens - 1, self._slots, size, self._shards):
            self._cache, _ = self._programs.prefill(self._params, self._cache, *batch[1:], routes=routes)
        pages = pages_for(longest_sequence(self._settings, self._max_prompt_tokens) - 1, size)
        for rows in batches.decode_shapes(self._slots, pages, size, self._shards):
            self._cache, _ = self._programs.decode(self._params, self._cache, rows, truncate=truncate,
                                                   routes=routes)
        self._copy([[(TRASH_PAGE, TRASH_PAGE)]] * self._shards)
        return self._programs.compiles - before

    def stats(self) -> dict[str, float]:
        """Totals since the engine was made, and what the pool holds now: of all devices together, but for
        kv_bytes, which each holds."""
        return self._totals.summary(self.slots) | {
            "preemptions": self._work.preemptions,
            "compiles": self._programs.compiles,
            "kv_bytes": self.kv_bytes,
            "kv_tokens": (self._num_pages - 1) * self._settings.page_size * self._shards,
            "kv_pages_used": self._work.pages_used,
            "kv_pages_kept": self._work.pages_kept
        }

    def _here(self, params: Any):
        """(the weights on the devices that draw, what it took to bring them there)."""
        return (params, None) if self._transfer is None else self._transfer(params)

    def _start_anew(self):
        """Drops all requests and the pool: the state of a new engine, but for totals and compiled
        programs."""
        self._work = Shards(self._shards, self._num_pages, self._settings.page_size, self._slots,
                            self._settings.decode_steps)
        self._cache = None

    def _reserve(self):
        """Takes the KV pool's memory, if it was released."""
        if self._cache is None:
            self._cache = self._programs.empty_cache(self._config, self._num_pages, self._settings.page_size,
                                                     self._dtype)

    def _step(self):
        if self._work.idle:
            return {}
        self._reserve()
        plans = self._work.plan()
        calls = self._fill(plans)
        rows = batches.decode_order(self._work.running, self._slots)
        out, calls = hosts.fetch((self._decode(rows), calls))
        results.note_routes(calls, itertools.chain.from_iterable(plan.admitted for plan in plans))
        return self._collect(rows, out)

    def _fill(self, plans: list[ChunkPlan]):
        """Carries the plans of all parts out, stage by stage; returns what its prefills gave, see
        _prefill()."""
        routes = any(sequence.routed for plan in plans for sequence in plan.admitted)
        calls = []
        for number in range(max(len(plan.stages) for plan in plans)):
            stages = [plan.stage(number) for plan in plans]
            self._copy([stage.copies for stage in stages])
            calls += self._prefill([stage.prefills for stage in stages], routes)
        self._totals.reused_tokens += sum(plan.reused for plan in plans)
        return calls

    def _prefill(self, parts: list[list[Prefill]], wanted: bool):
        """Runs the prefills of each part; returns (sequences, row lengths, expert ids on the device) of each
        call, if ids are wanted."""
        calls = []
        for batch in batches.prefill_batches(parts, self._settings.page_size):
            self._cache, ids_UTLA = self._programs.prefill(
                self._params, self._cache, batch.tokens_UT, batch.positions_UT, batch.pages_UJ, routes=wanted)
            lengths = (batch.positions_UT >= 0).sum(axis=1)
            self._totals.prefill_tokens += int(lengths.sum())
            if wanted:
                calls.append(([job and job.sequence for job in batch.jobs], lengths, ids_UTLA))
        return calls

    def _copy(self, parts: list):
        for first in range(0, max(map(len, parts)), self._slots):
            pairs = batches.stacked([copies[first:first + self._slots] for copies in parts], self._slots)
            pairs = np.array([pair or (TRASH_PAGE, TRASH_PAGE) for pair in pairs], np.int32)
            self._cache = self._programs.copy_pages(self._cache, pairs[:, 0], pairs[:, 1])

    def _decode(self, rows: list):
        running = [sequence for sequence in rows if sequence is not None]
        params = [sequence.group.request.params for sequence in running]
        width = batches.decode_width(max(len(sequence.pages) for sequence in running),
                                     self._settings.page_size)
        self._cache, out = self._programs.decode(
            self._params, self._cache, batches.decode_rows(rows, width),
            truncate=any(p.truncates for p in params), routes=any(p.return_routed_experts for p in params))
        return out

    def _collect(self, rows: list, out: dict[str, Any]):
        """Hands each sequence its tokens; returns the groups that are complete."""
        results.refuse_non_finite(out, self._version)
        counts_U = (out["tokens_SU"] >= 0).sum(axis=0)
        self._totals.add_chunk(sum(sequence is not None for sequence in rows), int(counts_U.sum()),
                               float(out["kept_U"].sum()))
        finished = {}
        for row, sequence in enumerate(rows):
            if sequence is None:
                continue
            group = sequence.group
            before = sequence.drawn
            completion = results.take(sequence, out, row, counts_U[row], self._version, self._detokenise)
            if group.listen is not None:
                group.listen(sequence.chunk(before, completion))
            if completion is not None:
                self._work.parts[row * self._shards // len(rows)].finish(sequence)
                group.completions[sequence.sample] = completion
                if len(group.completions) == group.request.params.n:
                    finished[group.handle] = [
                        group.completions[sample] for sample in range(group.request.params.n)
                    ]
        return finished
