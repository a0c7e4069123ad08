"""Rollouts on a mesh of eight virtual devices: the tokens of one device, drawn by parts that each hold their share of rows and pages."""
import dataclasses

import numpy as np
import pytest
from flax import nnx

from jaxrl_moe.config import RolloutSection
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.rollout.engine import JaxEngine
from jaxrl_moe.types import Request, SamplingParams

CONFIG = ModelConfig("qwen3_moe", 65, 32, 3, 4, 2, 8, 48, (True, False, True), (0, 0, 6), num_experts=8, num_experts_per_tok=2,
                     moe_intermediate_size=16, norm_topk_prob=True, initializer_range=0.2)
SETTINGS = RolloutSection(slots=8, page_size=4, max_tokens=12, decode_steps=5)
MESHES = [{"data": 8}, {"fsdp": 8}, {"tensor": 2}, {"expert": 2}, {"expert": 4}, {"expert": 8}, {"data": 2, "expert": 4},
          {"fsdp": 2, "tensor": 2, "expert": 2}, {"context": 2, "tensor": 2}, {"data": 2, "fsdp": 2}]


def make_engine(mesh=None, **settings):
    model, place = Transformer(CONFIG, rngs=nnx.Rngs(0)), make_placement(mesh) if mesh else None
    if place is not None:
        nnx.update(model, place.put(nnx.state(model)))
    return JaxEngine(model, dataclasses.replace(SETTINGS, **settings), max_prompt_tokens=20, seed=7, placement=place)


def requests(n=3, **params):
    rng = np.random.default_rng(0)
    return [Request(rng.integers(0, 65, length).astype(np.int32), SamplingParams(**({"max_tokens": 12, "n": n} | params)), number)
            for number, length in enumerate((1, 3, 4, 5, 8, 9, 12, 17))]


def assert_same(got, want):
    for a, b in zip(sum(got, []), sum(want, []), strict=True):
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_allclose(a.logprobs, b.logprobs, rtol=1e-4, atol=1e-5)
        assert a.finish_reason == b.finish_reason
        if b.expert_ids is not None:
            np.testing.assert_array_equal(np.sort(a.expert_ids), np.sort(b.expert_ids))


@pytest.fixture(scope="module")
def alone():
    return make_engine()


@pytest.fixture(scope="module")
def expected(alone):
    return alone.generate(requests(return_routed_experts=True, stop_ids=(3, 17)))


@pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: "-".join(f"{axis}{size}" for axis, size in mesh.items()))
def test_a_mesh_draws_the_tokens_and_routes_of_one_device(expected, mesh):
    engine = make_engine(mesh)
    assert_same(engine.generate(requests(return_routed_experts=True, stop_ids=(3, 17))), expected)
    stats = engine.stats()
    assert stats["kv_pages_used"] == 0 and engine.slots == 8
