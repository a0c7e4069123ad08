"""The routes that the engine returns are those its tokens took, whatever happened to the sequence
meanwhile."""
import functools

import jax
import numpy as np
import pytest
from flax import nnx

from tests.helpers import rollouts

requests = functools.partial(rollouts.requests, return_routed_experts=True)


def finish(engine, handles):
    done = {}
    while len(done) < len(handles):
        done.update(engine.step())
    return [done[handle] for handle in handles]


def assert_routes_of(forward, ids, completion):
    _, expected = forward(np.concatenate([ids, completion.ids]))
    assert completion.expert_ids.shape == expected[:-1].shape
    np.testing.assert_array_equal(np.sort(completion.expert_ids), np.sort(expected[:-1]))


@pytest.fixture(scope="module")
def small(make_engine):
    """An engine whose pool is too small for four sequences: some are sent back to the queue and prefilled
    again."""
    return make_engine(kv_tokens=48)


def test_preempted_sequences_keep_their_routes(small, prompts, forward):
    before = small.stats()["preemptions"]
    for ids, group in zip(prompts[3:], small.generate(requests(prompts[3:], n=2)), strict=True):
        for completion in group:
            assert_routes_of(forward, ids, completion)
    assert small.stats()["preemptions"] > before


def test_sequences_whose_pool_was_released_keep_their_routes(engine, prompts, forward):
    chosen = prompts[2:6]
    handles = [engine.submit(request) for request in requests(chosen, n=2)]
    engine.step()
    engine.release()
    engine.step()
    engine.release()
    for ids, group in zip(chosen, finish(engine, handles), strict=True):
        for completion in group:
            assert_routes_of(forward, ids, completion)


def test_a_sample_begun_after_a_publish_has_its_own_routes_of_the_prompt(engine, model, forward, prompts):
    """Of six samples four are drawing when other weights come; the last two read the prompt under those."""
    ids = prompts[7]
    params = nnx.state(model)
    # the routers' experts, in reverse
    other = jax.tree.map(lambda x: x[..., ::-1] if x.shape[-2:] == (32, 4) else x, params)
    engine.publish(params, 0)  # other tests published before
    handle = engine.submit(requests([ids], n=6)[0])
    engine.step()
    engine.publish(other, 1)
    (group,) = finish(engine, [handle])
    engine.publish(params, 2)
    old = [completion for completion in group if completion.policy_version[0] == 0]
    new = [completion for completion in group if completion.policy_version[0] == 1]
    assert len(old) == 4 and len(new) == 2
    _, routes = forward(ids)
    for completion in old:
        np.testing.assert_array_equal(np.sort(completion.expert_ids[:len(ids) - 1]), np.sort(routes[:-1]))
    for completion in new:
        np.testing.assert_array_equal(np.sort(completion.expert_ids[:len(ids) - 1, 0]),
                                      np.sort(3 - routes[:-1, 0]))
