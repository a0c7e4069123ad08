"""Rollouts on a mesh of eight virtual devices: the tokens of one device, drawn by parts that each hold their
share of rows and pages."""
import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from jaxrl_moe.config import RolloutSection
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.engine import batches, memory
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.types import Request, SamplingParams

CONFIG = ModelConfig("qwen3_moe", 65, 32, 2, 4, 2, 8, 48, (False, True), (0, 6), num_experts=8,
                     num_experts_per_tok=2, moe_intermediate_size=16, norm_topk_prob=True,
                     initializer_range=0.2)
SETTINGS = RolloutSection(slots=8, page_size=8, max_tokens=12, decode_steps=5)
MESHES = [{"data": 8}, {"fsdp": 8}, {"fsdp": 2, "tensor": 2, "expert": 2}]
LONG = [{
    "tensor": 2
}, {
    "context": 2
}, {
    "context": 4
}, {
    "expert": 2
}, {
    "expert": 4
}, {
    "expert": 8
}, {
    "data": 2,
    "expert": 4
}, {
    "context": 2,
    "tensor": 2
}]


def make_engine(mesh=None, max_prompt_tokens=20, **settings):
    model = Transformer(CONFIG, rngs=nnx.Rngs(0))
    place = make_placement(mesh) if mesh else None
    if place is not None:
        nnx.update(model, place.put(nnx.state(model)))
    return JaxEngine(model, dataclasses.replace(SETTINGS, **settings), max_prompt_tokens=max_prompt_tokens,
                     seed=7, placement=place)


def requests(n=2, **params):
    rng = np.random.default_rng(0)
    params = {"max_tokens": 12, "n": n, "return_routed_experts": True} | params
    return [Request(rng.integers(0, 65, length).astype(np.int32), SamplingParams(**params), number)
            for number, length in enumerate((4, 9, 17, 1))]


def assert_same(got, want):
    for a, b in zip(sum(got, []), sum(want, []), strict=True):
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_allclose(a.logprobs, b.logprobs, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(np.sort(a.expert_ids), np.sort(b.expert_ids))
        assert a.finish_reason == b.finish_reason


@pytest.fixture(scope="module")
def alone():
    return make_engine()


@pytest.fixture(scope="module")
def expected(alone):
    return alone.generate(requests(stop_ids=(3, 17)))


@pytest.fixture(scope="module")
def tight():
    """Four parts of two slots, each with a pool too small for two sequences: some are sent back to the
    queue."""
    return make_engine({"data": 2, "fsdp": 2}, kv_tokens=40)


@pytest.mark.parametrize("mesh", [*MESHES, *(pytest.param(mesh, marks=pytest.mark.slow) for mesh in LONG)],
                         ids=lambda mesh: "-".join(f"{axis}{size}" for axis, size in mesh.items()))
def test_a_mesh_draws_the_tokens_and_routes_of_one_device(expected, mesh):
    engine = make_engine(mesh)
    assert_same(engine.generate(requests(stop_ids=(3, 17))), expected)
    assert {len(completion.ids) for completion in sum(expected, [])} > {12}, "some stop early"
    assert engine.stats()["kv_pages_used"] == 0 and engine.slots == 8


@pytest.mark.slow
def test_preempted_released_and_heard_sequences_go_on_in_their_part(alone, tight):
    work = requests(n=4)
    heard = []
    want = alone.generate(work)
    handles = [tight.submit(request, heard.append) for request in work]
    gone = tight.submit(dataclasses.replace(work[2], sequence=9))
    done = tight.step()
    tight.cancel(gone)
    tight.release()
    assert tight._cache is None and tight.stats()["kv_pages_used"] == 0
    released = tight.stats()["preemptions"]
    while len(done) < len(handles):
        done.update(tight.step())
    assert_same([done[handle] for handle in handles], want)
    assert sum(len(chunk.ids) for chunk in heard) == 16 * 12
    assert tight.stats()["preemptions"] > released and tight.stats()["kv_pages_used"] == 0
    tight.publish(tight._params, 1)
    assert_same(tight.generate(work[:1]), want[:1])


def test_weights_published_in_flight_reach_every_part(tight):
    done = {}
    handles = [tight.submit(request) for request in requests(n=2)]
    tight.publish(tight._params, 1)
    tight.step()
    tight.publish(tight._params, 2)
    while len(done) < len(handles):
        done.update(tight.step())
    versions = [completion.policy_version.tolist() for handle in handles for completion in done[handle]]
    assert [1] * 5 + [2] * 7 in versions and all(row in ([1] * 5 + [2] * 7, [2] * 12) for row in versions)


def test_each_device_holds_and_computes_its_share():
    found = {}
    for size in (1, 4):
        engine = make_engine({"data": size} if size > 1 else None)
        engine._reserve()
        local = engine._cache.k.addressable_shards[0].data
        assert engine.kv_bytes == 2 * local.nbytes and engine.stats()["kv_tokens"] == size * (local.shape[1]
                                                                                              - 1) * 8
        *_, rows = batches.decode_shapes(engine._slots, 1, 8, engine._shards)
        assert rows.tokens_U.shape == (8,)
        compiled = engine._programs.decode.lower(engine._params, engine._cache, rows, truncate=False,
                                                 routes=False).compile()
        memory = compiled.memory_analysis()
        assert memory.alias_size_in_bytes == engine.kv_bytes
        found[size] = local.shape[1], compiled.cost_analysis()["flops"]
    # pages: trash, those of the slots, a held prompt
    assert found[1][0] == 1 + 8 * 4 + 3 and found[4][0] == 1 + 2 * 4 + 3
    assert found[4][1] < 0.35 * found[1][1]


def test_slots_that_do_not_divide_are_rounded_up_and_nothing_compiles_after_the_warm_up():
    engine = make_engine({"data": 2}, max_prompt_tokens=9, slots=3)
    assert engine.slots == 4
    assert engine.warmup() == engine.stats()["compiles"] > 0
    compiles = engine.stats()["compiles"]
    engine.generate(requests(return_routed_experts=False)[:2])
    engine.release()
    engine.generate(requests(temperature=0.5, return_routed_experts=False)[:1])
    assert engine.stats()["compiles"] == compiles
    assert jax.tree.leaves(engine._cache)[0].sharding.shard_shape((1, 8, 1, 1, 1)) == (1, 4, 1, 1, 1)


def test_an_engine_on_devices_of_its_own_holds_copies_there_and_sizes_its_pool_by_them(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "free_bytes", asked.append)
    model = Transformer(CONFIG, rngs=nnx.Rngs(0))
    engine = JaxEngine(model, SETTINGS, max_prompt_tokens=20, placement=make_placement({"tensor": 2},
                                                                                       jax.devices()[3:]))
    assert engine.devices == set(jax.devices()[3:5]) and asked[0] in engine.devices
    params = nnx.state(model)
    assert engine.publish(params, 1)["sync/bytes"] == 0
    jax.tree.map(lambda array: array.delete(), params)  # as an update does that takes the arrays over
    assert not any(array.is_deleted() for array in jax.tree.leaves(engine._params))
