"""The KV pool: what pages hold must not show in what is drawn; shapes compile once; memory goes and comes
back."""
import dataclasses

import jax
import numpy as np
import pytest

from jaxrl_moe.engine import batches
from jaxrl_moe.types import Request, SamplingParams, UserError
from tests.helpers.rollouts import requests


def assert_same(got, want):
    for ours, theirs in zip(got, want, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.ids, b.ids)
            np.testing.assert_allclose(a.logprobs, b.logprobs, rtol=1e-4, atol=1e-5)
            assert a.expert_ids is None or np.array_equal(a.expert_ids, b.expert_ids)


def test_samples_of_a_shared_prompt_do_not_write_into_each_other(engine, make_engine, prompts):
    """Prompt lengths 1, page size - 1, page size, page size + 1, ... with more samples than slots."""
    apart = make_engine(page_size=32)
    work = requests(prompts[:6], n=6)
    together = engine.generate(work)
    assert_same(together, apart.generate(work))
    assert len({tuple(completion.ids) for completion in together[2]}) == 6
    assert engine.stats()["kv_pages_used"] == apart.stats()["kv_pages_used"] == 0


def test_a_prompt_is_prefilled_once_for_its_group(engine, prompts):
    before = engine.stats()["prefill_tokens"]
    engine.generate(requests(prompts, n=6))
    assert engine.stats()["prefill_tokens"] - before == sum(len(ids) - 1 for ids in prompts)


def test_preempted_sequences_go_on_with_the_same_tokens(engine, make_engine, prompts):
    tight = make_engine(kv_tokens=4 * 9)
    work = requests(prompts, n=3, return_routed_experts=True)
    assert_same(tight.generate(work), engine.generate(work))
    stats = tight.stats()
    assert stats["preemptions"] > 0 and stats["kv_pages_used"] == 0


def test_release_in_flight_keeps_the_tokens_and_takes_the_pool_back(engine, prompts):
    work = requests(prompts, n=2)
    expected = engine.generate(work)
    handles = [engine.submit(request) for request in work]
    done = {}
    while len(done) < len(handles):
        pool = engine._cache
        engine.release()
        assert pool is None or all(part.is_deleted() for part in pool)
        assert engine._cache is None and engine.stats()["kv_pages_used"] == 0
        done.update(engine.step())
    assert_same([done[handle] for handle in handles], expected)


def test_the_pool_is_sized_by_slots_and_longest_sequences_unless_told(make_engine):
    token = 2 * 2 * 2 * 8 * 4  # keys and values x layers x heads x width x bytes
    # trash + 4 slots of 32 tokens + a held prompt of 20
    assert make_engine().kv_bytes == token * 4 * (1 + 4 * 8 + 5)
    assert make_engine(kv_tokens=101).kv_bytes == token * 4 * (1 + 26)


def test_a_second_run_compiles_nothing(engine, prompts):
    for params in ({}, {"top_k": 5}, {"temperature": 0.0}):
        engine.generate(requests(prompts, n=3, **params))
        compiles = engine.stats()["compiles"]
        engine.generate(requests(prompts, n=3, **params))
        assert engine.stats()["compiles"] == compiles


def test_nothing_compiles_after_the_warm_up(make_engine, prompts):
    engine = make_engine(slots=2, options={"max_prompt_tokens": 9})
    assert engine.warmup() == engine.stats()["compiles"] > 0 and engine.stats()["tokens"] == 0
    compiles = engine.stats()["compiles"]
    engine.generate(requests(prompts[:6], n=2))
    engine.release()
    engine.generate(requests(prompts[:3], temperature=0.5))
    assert engine.stats()["compiles"] == compiles and engine.warmup() == 0


def test_decoding_updates_the_pool_in_place(make_engine):
    """Beside the donated pool, decoding needs memory for the visible pages only, however large the pool
    is."""
    engine = make_engine(kv_tokens=40_000)
    engine._reserve()
    rows = next(batches.decode_shapes(4, 1, 4))
    memory = engine._programs.decode.lower(engine._params, engine._cache, rows, truncate=False,
                                           routes=False).compile().memory_analysis()
    assert memory.alias_size_in_bytes == engine.kv_bytes
    assert memory.temp_size_in_bytes < engine.kv_bytes / 4


def test_stats_count_what_was_done(make_engine, prompts):
    engine = make_engine()
    engine.generate(requests(prompts[4:6], max_tokens=10, n=2))
    stats = engine.stats()
    assert stats["tokens"] == 40 and stats["prefill_tokens"] == 7 + 8 and stats["occupancy"] == 1.0
    assert stats["kept_mass"] == 1.0 and stats["tokens_per_s"] == pytest.approx(40 / stats["seconds"])


def test_non_finite_weights_stop_the_engine_and_leave_it_usable(engine, model, prompts):
    from flax import nnx
    params = nnx.state(model)
    engine.publish(jax.tree.map(lambda x: x * np.nan, params), 3)
    with pytest.raises(UserError, match="version 3.*not finite"):
        engine.generate(requests(prompts[:2]))
    engine.publish(params, 4)
    assert len(engine.generate(requests(prompts[:2]))) == 2


@pytest.mark.parametrize("change,match",
                         [(dict(max_tokens=0), "max_tokens = 0"),
                          (dict(n=0), "n = 0"),
                          (dict(temperature=-1.0), "temperature = -1.0"),
                          (dict(top_p=0.0), "top_p = 0.0"),
                          (dict(top_k=-1), "top_k = -1"),
                          (dict(min_p=1.0), "min_p = 1.0"),
                          (dict(stop_strings=("a", "")), "empty strings"),
                          (dict(stop_strings=("a",)), "detokenise"),
                          (dict(max_tokens=250), "context is 256"),
                          (dict(max_tokens=200), "KV pool has 37")])
def test_a_request_that_cannot_be_met_is_refused_with_its_reason(engine, prompts, change, match):
    request = Request(prompts[7], dataclasses.replace(SamplingParams(max_tokens=12), **change), 0)
    with pytest.raises(UserError, match=match):
        engine.generate(requests(prompts[:1]) + [request])
    assert engine.step() == {}, "nothing of a refused call stays queued"


@pytest.mark.parametrize(
    "ids", [np.zeros(0, np.int32),
            np.array([320], np.int32),
            np.array([-1], np.int32),
            np.array([1.5])])
def test_a_prompt_without_valid_ids_is_refused(engine, ids):
    with pytest.raises(UserError, match="Request 0"):
        engine.generate([Request(ids, SamplingParams(max_tokens=4), 0)])
