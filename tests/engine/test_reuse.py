"""What is drawn over keys and values that earlier requests left is what a fresh engine draws."""
import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from jaxrl_moe.config import RolloutSection
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.types import Request, SamplingParams
from tests.helpers.rollouts import requests

PARAMS = SamplingParams(max_tokens=7, return_routed_experts=True)
STATS = ("prefill_tokens", "reused_tokens")


def finish(engine, handles):
    done = {}
    while len(done) < len(handles):
        done.update(engine.step())
    return [done[handle] for handle in handles]


def assert_same(got, want):
    """Of completions, the second of which may be longer."""
    count = len(got.ids)
    np.testing.assert_array_equal(got.ids, want.ids[:count])
    np.testing.assert_allclose(got.logprobs, want.logprobs[:count], rtol=1e-5, atol=1e-5)


def test_requests_of_one_sample_draw_what_one_request_of_them_all_draws(engine, prompts):
    params = SamplingParams(max_tokens=12)
    whole = engine.generate([Request(prompts[5], dataclasses.replace(params, n=6), 3, sample=2)])[0]
    apart = engine.generate([Request(prompts[5], params, 3, sample=2 + number) for number in range(6)])
    for one, (other,) in zip(whole, apart, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=1e-5, atol=1e-5)
    assert len({tuple(one.ids) for one in whole}) == 6


def test_a_turn_prefills_the_newest_token_and_the_observation(engine, prompts, forward):
    rng = np.random.default_rng(1)
    engine.release()
    ids = prompts[4]
    for turn in range(4):
        before = engine.stats()
        request = Request(ids, PARAMS, 0, turn=turn)
        ((completion,),) = finish(engine, [engine.submit(request)])
        prefilled, reused = (engine.stats()[name] - before[name] for name in STATS)
        assert (prefilled, prefilled + reused) == (1 + 3 - 1 if turn else len(ids) - 1, len(ids) - 1)
        assert engine.stats()["kv_pages_used"] == 0 < engine.stats()["kv_pages_kept"]
        whole = np.concatenate([ids, completion.ids])
        _, routes = forward(whole)
        np.testing.assert_array_equal(np.sort(completion.expert_ids), np.sort(routes[:-1]))
        ids = np.concatenate([whole, rng.integers(3, 320, 3)]).astype(np.int32)
    engine.release()
    assert engine.stats()["kv_pages_kept"] == 0


def test_a_batch_leaves_nothing_behind_and_finds_nothing(engine, prompts):
    (handle,) = [engine.submit(request) for request in requests(prompts[7:])]
    finish(engine, [handle])
    before = engine.stats()["reused_tokens"]
    engine.generate(requests(prompts[7:]))
    assert engine.stats()["reused_tokens"] == before and engine.stats()["kv_pages_kept"] == 0


def test_a_turn_over_kept_pages_of_windowed_layers_draws_as_one_that_recomputes():
    """A window of 6 tokens on one layer, pages of 4."""
    config = ModelConfig(family="qwen3_moe", vocab_size=320, hidden_size=32, num_layers=2, num_heads=4,
                         num_kv_heads=2, head_dim=8, intermediate_size=48, sparse_layers=(False, True),
                         windows=(6, 0), num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24,
                         initializer_range=0.2)
    settings = RolloutSection(slots=4, page_size=4, max_tokens=12)
    engine = JaxEngine(Transformer(config, rngs=nnx.Rngs(0)), settings, max_prompt_tokens=40, seed=1)
    ids = np.arange(3, 16, dtype=np.int32)
    ((first,),) = finish(engine, [engine.submit(Request(ids, SamplingParams(12), 0))])
    turn = Request(np.concatenate([ids, first.ids, ids]), SamplingParams(12), 0, turn=1)
    ((kept,),) = finish(engine, [engine.submit(turn)])
    assert engine.stats()["reused_tokens"] == len(ids) + 11
    engine.release()
    ((recomputed,),) = finish(engine, [engine.submit(turn)])
    assert engine.stats()["reused_tokens"] == len(ids) + 11
    np.testing.assert_array_equal(kept.ids, recomputed.ids)
    np.testing.assert_allclose(kept.logprobs, recomputed.logprobs, rtol=1e-5, atol=1e-5)


class Play:
    """A random course of many requests at one engine, with all that can happen to them between."""

    def __init__(self, engine, weights, prompts, seed):
        self.engine = engine
        self.weights = weights
        self.rng = np.random.default_rng(seed)
        self.histories = [prompts[7], prompts[7][:10], prompts[6]]
        self.flying = {}
        self.ended = []     # (request, completions)
        self.numbers = iter(range(10**6))
        self.version = 0

    def submit(self):
        base = self.histories[self.rng.integers(len(self.histories))]
        ids = np.concatenate([base, self.rng.integers(3, 320, self.rng.integers(0, 4))]).astype(np.int32)[:28]
        params = dataclasses.replace(PARAMS, n=int(self.rng.integers(1, 4)),
                                     max_tokens=int(self.rng.integers(1, 9)))
        request = Request(ids, params, next(self.numbers), turn=int(self.rng.integers(3)),
                          sample=int(self.rng.integers(3)))
        self.flying[self.engine.submit(request)] = request

    def disturb(self):
        handle = list(self.flying)[self.rng.integers(len(self.flying))]
        match self.rng.integers(8):
            case 0:
                self.engine.cancel(handle)
                del self.flying[handle]
            case 1:
                cut = self.engine.cut(handle)
                if cut is not None:
                    self.end({handle: cut})
            case 2:
                self.engine.release()
            case 3:
                self.version += 1
                self.engine.publish(self.weights[self.version % 2], self.version)

    def end(self, done):
        for handle, completions in done.items():
            request = self.flying.pop(handle)
            self.ended.append((request, completions))
            self.histories.append(np.concatenate([request.ids, completions[-1].ids]))

    def go(self, count):
        self.engine.publish(self.weights[0], 0)
        while count or self.flying:
            for _ in range(min(count, self.rng.integers(0, 4))):
                self.submit()
                count -= 1
            self.end(self.engine.step())
            if self.flying:
                self.disturb()
            self.check_pages()
        return self.ended

    def check_pages(self):
        for part in self.engine._work.parts:
            known = part.cache._known
            held = np.zeros(part.pool.num_pages, int)
            for sequence in part.running:
                held[sequence.pages] += 1
            held[list(known)] += 1
            assert held.tolist() == part.pool._holders
            assert part.cache.idle == sum(held[page] == 1 for page in known)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_between_every_completion_is_that_of_a_fresh_engine(small, engine, model, prompts,
                                                                             forward, seed):
    graphdef, params = nnx.split(model)
    weights = [params, jax.tree.map(lambda x: 1.1 * x, params)]
    models = [nnx.merge(graphdef, one) for one in weights]
    before = small.stats()
    ended = Play(small, weights, prompts, seed).go(25)
    small.release()
    assert small.stats()["kv_pages_used"] == small.stats()["kv_pages_kept"] == 0
    assert all(part.pool.num_used == 0 for part in small._work.parts)
    assert small.stats()["reused_tokens"] - before["reused_tokens"] > 100
    checked = 0
    for odd in (0, 1):
        engine.publish(weights[odd], odd)
        for request, completions in ended:
            for number, completion in enumerate(completions):
                first = completion.policy_version[0]
                if first % 2 != odd:
                    continue
                alone = dataclasses.replace(request, params=dataclasses.replace(request.params, n=1),
                                            sample=request.sample + number)
                ((expected,),) = engine.generate([alone])
                own = int((completion.policy_version == first).sum())
                assert_same(dataclasses.replace(completion, ids=completion.ids[:own],
                                                logprobs=completion.logprobs[:own]), expected)
                prompt = len(request.ids)
                routes = forward(np.concatenate([request.ids, completion.ids]), models[odd])[1]
                np.testing.assert_array_equal(np.sort(completion.expert_ids[:prompt + own - 1]),
                                              np.sort(routes[:prompt + own - 1]))
                assert len(completion.expert_ids) == prompt + len(completion.ids) - 1
                checked += own
    engine.publish(params, 0)
    assert checked > 100


@pytest.fixture(scope="module")
def small(make_engine):
    """An engine whose pool is too small for all that it might keep, and even for four sequences."""
    return make_engine(kv_tokens=72, options={"max_prompt_tokens": 28})
