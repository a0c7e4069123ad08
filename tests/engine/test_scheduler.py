"""The scheduler against a simulated pool: every cell remembers which token of which history was written to
it."""
import collections
import dataclasses
import itertools

import numpy as np
import pytest

from jaxrl_moe.engine.batches import prefill_batches
from jaxrl_moe.engine.pages import PagePool, pages_for
from jaxrl_moe.engine.prefixes import PrefixCache
from jaxrl_moe.engine.scheduler import Prefill, Scheduler
from jaxrl_moe.engine.sequences import RequestGroup
from jaxrl_moe.engine.shards import Shards
from jaxrl_moe.types import Request, SamplingParams


class Simulation:
    """Carries out plans on a table of cells [page][offset] = (position, the tokens up to it, the weights).

    Drawn are tokens below `alphabet`; those below 30 in a thousand of them, at least 0, end a sample.
    """

    def __init__(self, pages, page_size, slots, steps, seed, scheduler=None, alphabet=1000):
        self.cells = collections.defaultdict(dict)
        self.alphabet = alphabet
        self.weights = 0
        self.page_size = page_size
        self.steps = steps
        self.rng = np.random.default_rng(seed)
        self.scheduler = scheduler or Scheduler(PagePool(pages + 1), page_size, slots, steps)
        self.done = []
        self.firsts = []
        self.prefilled = 0

    def write(self, pages, position, history):
        cell = (position, history, self.weights)
        self.cells[pages[position // self.page_size]][position % self.page_size] = cell

    def history(self, pages, position):
        """What a reader of these pages takes position to hold."""
        return self.cells[pages[position // self.page_size]][position % self.page_size]

    def forget(self):
        self.scheduler.forget()
        self.weights += 1

    def step(self):
        plan = self.scheduler.plan()
        ages = [(sequence.group.handle, sequence.sample)
                for sequence in (*self.scheduler.running, *self.scheduler.queue)]
        assert ages == sorted(ages), "every running sequence is older than every queued one"
        self.carry_out(plan)

    def carry_out(self, plan):
        for stage in plan.stages:
            self.cells.update({target: dict(self.cells[source]) for source, target in stage.copies})
            befores = {id(job): self.history(job.pages, job.start - 1)[1] if job.start else ()
                       for job in stage.prefills}  # nothing that another job of the stage writes
            for batch in prefill_batches([stage.prefills], self.page_size):
                self.prefill(batch, befores)
        for sequence in plan.admitted:
            if sequence.routed:
                sequence.join_routes()
        self.check_holders()
        self.check_known()
        assert self.scheduler.running or not self.scheduler.queue, "work is queued but nothing runs"
        for sequence in list(self.scheduler.running):
            self.decode(sequence)

    def routes(self, ids):
        """Stand for the experts of tokens under the present weights."""
        return (ids + 1000 * self.weights).reshape(-1, 1, 1)

    def prefill(self, batch, befores):
        for row, job in enumerate(batch.jobs):
            if job and job.sequence:
                tokens = batch.tokens_UT[row][batch.positions_UT[row] >= 0]
                job.sequence.cached_routes.append(self.routes(tokens))
            for position, token in zip(batch.positions_UT[row], batch.tokens_UT[row]):
                if position >= 0:
                    befores[id(job)] = (*befores[id(job)], int(token))
                    self.write(job.pages, int(position), befores[id(job)])
                    self.prefilled += 1

    def decode(self, sequence):
        if sequence not in self.firsts:
            self.firsts.append(sequence)
        for position in range(sequence.length - 1):
            assert self.history(sequence.pages, position)[:2] == (
                position, tuple(sequence.ids[:position + 1].tolist()))
            assert not sequence.current or self.history(sequence.pages, position)[2] == self.weights
        count = min(self.steps, sequence.limit - sequence.length)
        drawn = self.rng.integers(0, self.alphabet, count)
        stop = np.flatnonzero(drawn <= self.alphabet * 0.03)
        drawn = drawn[:stop[0] + 1] if len(stop) else drawn
        start = sequence.length - 1
        fed = np.concatenate([sequence.ids[start:start + 1], drawn[:-1]])
        sequence.append(drawn.astype(np.int32), np.zeros(len(drawn), np.float32), 0,
                        self.routes(fed) if sequence.routed else None)
        for position in range(start, sequence.length - 1):
            self.write(sequence.pages, position, tuple(sequence.ids[:position + 1].tolist()))
        if len(stop) or sequence.length == sequence.limit:
            self.scheduler.finish(sequence)
            self.done.append(sequence)

    def check_holders(self):
        """The pool counts exactly the holders there are: running sequences, and the tree of known pages."""
        pool = self.scheduler.pool
        cache = self.scheduler.cache
        held = collections.Counter(page for sequence in self.scheduler.running for page in sequence.pages)
        used = len(held)
        held.update(known.page for known in known_pages(cache))
        assert {page: count for page, count in enumerate(pool._holders) if count} == held
        assert cache.idle == len(held) - used and self.scheduler.pages_used == used
        assert pool.num_used == len(held)

    def check_known(self):
        """What the tree says of a page stands there, by the present weights."""
        for known in known_pages(self.scheduler.cache):
            path = []
            node = known
            while node is not None:
                path.append(node.ids)
                assert node is known or node.parent is None or len(node.ids) == self.page_size
                node = node.parent
            ids = np.concatenate(path[::-1])
            for position in range(len(ids) - len(known.ids), len(ids)):
                cell = self.cells[known.page][position % self.page_size]
                assert cell == (position, tuple(ids[:position + 1].tolist()), self.weights)
            if path[-1] is self.scheduler.cache._roots[True].ids:
                np.testing.assert_array_equal(known.routes, self.routes(known.ids))


def known_pages(cache):
    """Every page of the tree, each once."""
    level = list(cache._roots.values())
    found = []
    while level := [child for node in level for child in node.children.values()]:
        found += level
    assert {known.page: known for known in found} == cache._known and len(found) == len(cache._known)
    return found


def with_observation(sequence, observation):
    """The prompt of the next turn."""
    return np.concatenate([sequence.ids[:sequence.length], observation]).astype(np.int32)


def groups(rng, count, longest, max_tokens, n, alphabet=1000, routed=False):
    """Of prompts that often begin alike."""
    bases = rng.integers(0, alphabet, (3, longest)).astype(np.int32)

    def request(handle):
        ids = rng.integers(0, alphabet, rng.integers(1, longest + 1)).astype(np.int32)
        common = rng.integers(0, len(ids) + 1)
        ids[:common] = bases[rng.integers(3), :common]
        return Request(
            ids, SamplingParams(max_tokens=int(rng.integers(1, max_tokens + 1)),
                                n=int(rng.integers(1, n + 1)),
                                return_routed_experts=routed and rng.random() < 0.5), handle)
    return [RequestGroup(handle, request(handle), ()) for handle in range(count)]


@pytest.mark.parametrize("seed", range(40))
def test_every_sequence_reads_its_own_tokens_whatever_is_shared_copied_or_preempted(seed):
    rng = np.random.default_rng(seed)
    page_size = int(rng.integers(1, 6))
    slots = int(rng.integers(1, 7))
    steps = int(rng.integers(1, 8))
    work = groups(rng, 12, 14, 20, 5)
    least = max(pages_for(len(g.request.ids) + g.request.params.max_tokens - 1, page_size) for g in work) + 1
    simulation = Simulation(least + int(rng.integers(0, 3 * least)), page_size, slots, steps, seed)
    for group in work[:6]:
        simulation.scheduler.add(group)
    for round_number in range(2000):
        if round_number == 3:
            simulation.forget()
            for group in work[6:]:
                simulation.scheduler.add(group)
        if round_number == 6:
            simulation.scheduler.suspend()
            assert simulation.scheduler.pool.num_used == 0
        if not simulation.scheduler.queue and not simulation.scheduler.running:
            break
        simulation.step()
    assert len(simulation.done) == sum(group.request.params.n for group in work)
    assert simulation.scheduler.pages_used == 0
    simulation.forget()
    assert simulation.scheduler.pool.num_used == 0
    order = [(sequence.group.handle, sequence.sample) for sequence in simulation.firsts]
    assert order == sorted(order), "first come, first served"


@pytest.mark.parametrize("seed", range(20))
def test_a_known_page_holds_its_tokens_through_turns_cancels_full_pools_and_other_weights(seed):
    """Few tokens, so that prompts and even completions often agree; what is done goes on as a further
    turn."""
    rng = np.random.default_rng(seed)
    page_size, slots, steps = (int(rng.integers(1, most)) for most in (6, 5, 6))
    work = groups(rng, 40, 12, 6, 3, alphabet=3, routed=True)
    least = pages_for(50, page_size)
    simulation = Simulation(least + int(rng.integers(0, 2 * least)), page_size, slots, steps, seed,
                            alphabet=3)
    scheduler = simulation.scheduler
    turns = []
    numbers = itertools.count()
    while work or turns or scheduler.load:
        for _ in range(rng.integers(0, 3)):
            if ready := [each for each in (work, turns) if each]:
                group = ready[rng.integers(len(ready))].pop(0)
                scheduler.add(dataclasses.replace(group, handle=next(numbers)))
        action = rng.random()
        if action < 0.1 and scheduler.load:
            there = [*scheduler.running, *scheduler.queue]
            scheduler.cancel(there[rng.integers(len(there))].group.handle)
        elif action < 0.15:
            simulation.forget()
        elif action < 0.2:
            scheduler.suspend()
        simulation.check_holders()
        simulation.step()
        for sequence in simulation.done:
            if sequence.length < 20:
                ids = with_observation(sequence, rng.integers(0, 3, 3))
                params = SamplingParams(max_tokens=5, return_routed_experts=sequence.routed)
                turns.append(RequestGroup(0, Request(ids, params, 0), ()))
        simulation.done.clear()
    assert scheduler.pages_used == 0
    scheduler.suspend()
    assert scheduler.pool.num_used == 0


def test_the_next_turn_prefills_the_newest_token_and_the_observation_alone():
    simulation = Simulation(pages=40, page_size=4, slots=4, steps=3, seed=0, alphabet=1)
    ids = np.arange(100, 111, dtype=np.int32)
    for turn, prefilled in enumerate((10, 5, 5, 5)):
        before = simulation.prefilled
        simulation.scheduler.add(RequestGroup(turn, Request(ids, SamplingParams(max_tokens=9), 0), ()))
        simulation.step()
        (sequence,) = simulation.done
        simulation.done.clear()
        assert simulation.prefilled - before == prefilled and sequence.drawn == 1
        assert simulation.scheduler.pages_used == 0
        used = simulation.scheduler.pool.num_used
        assert used == pages_for(sequence.length - 1, 4), "taken over, not copied"
        ids = with_observation(sequence, np.arange(5 * turn, 5 * turn + 5))


def test_requests_of_one_sample_share_their_prompt_like_samples_of_one_request():
    """In one plan, and when they are admitted later."""
    simulation = Simulation(pages=40, page_size=4, slots=3, steps=3, seed=0)
    ids = np.arange(100, 111, dtype=np.int32)
    for sample in range(7):
        simulation.scheduler.add(RequestGroup(sample, Request(ids, SamplingParams(max_tokens=9), 0), ()))
    while len(simulation.done) < 7:
        simulation.step()
    assert simulation.prefilled == 10


def test_pages_are_given_up_by_least_use_and_none_before_those_that_go_on_from_it():
    pool = PagePool(7)
    cache = PrefixCache(pool, 2)
    for first in (10, 20):
        pages = cache.take(3)
        cache.learn(np.arange(first, first + 5, dtype=np.int32), pages, False)
        cache.leave(pages)
    known = lambda first: cache.find(np.arange(first, first + 5, dtype=np.int32), False).length(2)  # noqa: E731
    assert (known(10), known(20), pool.num_free, cache.idle) == (5, 5, 0, 6)
    cache.leave(cache.hold(cache.find(np.arange(10, 15, dtype=np.int32), False).pages))  # 20 is older now
    lengths = []
    for _ in range(6):
        cache.take(1)
        lengths.append((known(20), known(10)))
    assert lengths == [(4, 5), (2, 5), (0, 5), (0, 4), (0, 2), (0, 0)]
    assert cache.take(1) is None


def test_what_is_known_without_routes_is_not_used_by_who_wants_them():
    simulation = Simulation(pages=40, page_size=4, slots=3, steps=3, seed=0)
    for handle, routed in enumerate((False, True, True)):
        params = SamplingParams(max_tokens=2, return_routed_experts=routed)
        simulation.scheduler.add(RequestGroup(handle, Request(np.arange(9, dtype=np.int32), params, 0), ()))
    simulation.step()
    assert simulation.prefilled == 2 * 8


def test_a_request_goes_to_the_part_that_holds_its_beginning_while_that_has_a_slot():
    shards = Shards(3, 100, 4, 2, 3)

    def add(handle, ids, n=1):
        request = Request(ids.astype(np.int32), SamplingParams(max_tokens=9, n=n), 0)
        shards.add(RequestGroup(handle, request, ()))

    def where():
        shards.plan()
        return [[sequence.group.handle for sequence in part.running] for part in shards.parts]

    for handle in range(3):
        add(handle, np.arange(9) + 100 * handle)
    assert where() == [[0], [1], [2]]
    add(3, np.arange(12) + 200)
    add(4, np.arange(12) + 200)
    add(5, np.arange(300, 309))
    assert where() == [[0, 4], [1, 5], [2, 3]]


@pytest.mark.parametrize("seed", range(20))
def test_a_cancelled_request_gives_back_its_pages_and_disturbs_no_other(seed):
    rng = np.random.default_rng(seed)
    work = groups(rng, 8, 14, 20, 5)
    least = max(pages_for(len(g.request.ids) + g.request.params.max_tokens - 1, 3) for g in work) + 1
    simulation = Simulation(2 * least, 3, 4, 3, seed)
    scheduler = simulation.scheduler
    for group in work:
        scheduler.add(group)
    gone = {int(handle) for handle in rng.choice(8, 4, replace=False)}
    for handle in sorted(gone):
        for _ in range(rng.integers(0, 3)):
            if scheduler.running or scheduler.queue:
                simulation.step()
        scheduler.cancel(handle)
        simulation.check_holders()
        assert handle not in {sequence.group.handle for sequence in (*scheduler.running, *scheduler.queue)}
    while scheduler.running or scheduler.queue:
        simulation.step()
    done = [(sequence.group.handle, sequence.sample) for sequence in simulation.done
            if sequence.group.handle not in gone]
    assert sorted(done) == [(g.handle, i) for g in work if g.handle not in gone
                            for i in range(g.request.params.n)]
    assert scheduler.pages_used == 0


@pytest.mark.parametrize("seed", range(20))
def test_parts_draw_every_sample_once_and_none_waits_while_another_has_slots_to_spare(seed):
    rng = np.random.default_rng(seed)
    count, page_size, slots, steps = (int(rng.integers(low, high))
                                      for low, high in ((2, 5), (1, 6), (1, 5), (1, 8)))
    work = groups(rng, 14, 14, 20, 5)
    pages = max(pages_for(len(g.request.ids) + g.request.params.max_tokens - 1, page_size)
                for g in work) + 1 + int(rng.integers(0, 20))
    shards = Shards(count, pages + 1, page_size, slots, steps)
    tables = [
        Simulation(pages, page_size, slots, steps, seed + number, part)
        for number, part in enumerate(shards.parts)
    ]
    for group in work:
        shards.add(group)
    gone = int(rng.integers(0, 14))
    rounds = 0
    while not shards.idle:
        plans = shards.plan()
        loads = [part.load for part in shards.parts]
        assert max(loads) <= slots or min(loads) >= slots
        for table, plan in zip(tables, plans, strict=True):
            table.carry_out(plan)
        rounds += 1
        if rounds == 2:
            shards.cancel(gone)
        if rounds == 4:
            shards.suspend()
        if rounds == 6:
            for table in tables:
                table.forget()
    done = sorted((sequence.group.handle, sequence.sample) for table in tables for sequence in table.done)
    everything = [(g.handle, i) for g in work for i in range(g.request.params.n)]
    assert [one for one in done if one[0] != gone] == [one for one in everything if one[0] != gone] and len(
        set(done)) == len(done)
    assert shards.pages_used == 0


def test_a_group_stays_whole_while_others_wait_and_is_shared_out_at_the_end():
    shards = Shards(3, 100, 4, 2, 3)
    for handle in range(4):
        shards.add(
            RequestGroup(handle, Request(np.arange(9, dtype=np.int32), SamplingParams(max_tokens=9, n=3), 0),
                         ()))
    shards.plan()
    assert [[s.group.handle for s in (*part.running, *part.queue)]
            for part in shards.parts] == [[0] * 3, [1] * 3, [2] * 3]
    for part in shards.parts[1:]:
        for sequence in list(part.running):
            part.finish(sequence)
    shards.cancel(3)
    shards.plan()
    assert [[(s.group.handle, s.sample) for s in part.running] for part in shards.parts] == [
        [(0, 0), (0, 1)], [(1, 2), (0, 2)], [(2, 2)]]


def test_a_prompt_is_prefilled_once_for_its_group_even_when_samples_are_admitted_later():
    simulation = Simulation(pages=40, page_size=4, slots=2, steps=3, seed=0)
    simulation.scheduler.add(
        RequestGroup(0, Request(np.arange(100, 111, dtype=np.int32), SamplingParams(max_tokens=9, n=7), 0),
                     ()))
    while len(simulation.done) < 7:
        simulation.step()
    assert simulation.prefilled == 10 and simulation.scheduler.preemptions == 0


def test_full_pages_of_a_prompt_are_shared_by_its_samples():
    simulation = Simulation(pages=40, page_size=4, slots=8, steps=1, seed=0)
    simulation.scheduler.add(
        RequestGroup(0, Request(np.arange(100, 114, dtype=np.int32), SamplingParams(max_tokens=2, n=8), 0),
                     ()))
    simulation.step()
    assert simulation.scheduler.pool.num_used == 3 + 8  # 13 tokens: 3 full pages once, the fourth for each


def test_the_youngest_sequence_gives_way_when_pages_run_out():
    simulation = Simulation(pages=6, page_size=2, slots=3, steps=2, seed=1)
    for handle in range(3):
        simulation.scheduler.add(
            RequestGroup(handle, Request(np.array([500], np.int32), SamplingParams(max_tokens=9), handle),
                         ()))
    while not simulation.scheduler.preemptions:
        before = list(simulation.scheduler.running)
        simulation.scheduler.plan()
        for sequence in simulation.scheduler.running:
            sequence.append(np.array([500, 500], np.int32), np.zeros(2), 0, None)
    assert simulation.scheduler.queue[0] is before[-1] and simulation.scheduler.running == before[:-1]


@pytest.mark.parametrize("parts", [1, 3])
def test_long_prefixes_are_written_in_several_calls_in_order(parts):
    lengths = [2500, 3, 1024, 1500, 40]
    jobs = [Prefill(np.arange(n, dtype=np.int32), 0, list(range(1, 1 + pages_for(n, 32)))) for n in lengths]
    seen = {id(job): [] for job in jobs}
    for batch in prefill_batches([jobs[part::parts] for part in range(parts)], 32):
        assert len(batch.jobs) == len(batch.tokens_UT) and batch.tokens_UT.size <= 4096 * parts
        assert batch.pages_UJ.shape[1] * 32 > batch.positions_UT.max()
        for row, job in enumerate(batch.jobs):
            real = batch.positions_UT[row] >= 0
            assert real.any() == (job is not None)
            if job is None:
                continue
            assert any(job is own for own in jobs[row * parts // len(batch.jobs)::parts])
            np.testing.assert_array_equal(batch.tokens_UT[row, real], batch.positions_UT[row, real])
            seen[id(job)] += batch.positions_UT[row, real].tolist()
    assert all(seen[id(job)] == list(range(n)) for job, n in zip(jobs, lengths))
