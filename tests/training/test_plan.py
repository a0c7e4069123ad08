"""Plans: exact where they can be, linear in depth, refused where nothing fits."""
import dataclasses
import json

import jax
import pytest
from flax import nnx

from jaxrl_moe.config import base, resolve
from jaxrl_moe.distributed.chips import find_chip
from jaxrl_moe.distributed.hlo import collective_bytes
from jaxrl_moe.distributed.mesh import MeshError, make_placement
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.training import plan_report
from jaxrl_moe.training.plan import make_plan
from jaxrl_moe.training.step import Learner
from jaxrl_moe.types import UserError


def shape(layers):
    return ModelConfig("qwen3_moe", 66, 32, layers, 4, 2, 8, 48, (True,) * layers, (0,) * layers, num_experts=8, num_experts_per_tok=2,
                       moe_intermediate_size=16, norm_topk_prob=True)


def recipe(**mesh):
    config = base()
    config.model.path = config.data.path = "unused"
    config.model.dtype, config.lora.rank = "float32", 4
    config.data.max_prompt_tokens, config.rollout.max_tokens, config.rollout.slots = 32, 32, 4
    config.train.tokens_per_micro_batch, config.train.remat = 512, "full"
    config.mesh.update(mesh)
    return resolve(config)


@pytest.fixture(scope="module")
def plans():
    config = recipe(fsdp=2, expert=2, tensor=2)
    return config, {layers: make_plan(config, shape(layers)) for layers in (2, 4, 6)}


@pytest.mark.slow
def test_bytes_of_weights_and_optimiser_are_those_on_a_device(plans):
    config, found = plans
    model = Transformer(shape(4), lora=LoraConfig(4, 32.0), rngs=nnx.Rngs(0))
    one = Learner(model, config.optimizer, 100, placement=make_placement({"fsdp": 2, "expert": 2, "tensor": 2}))

    def on_first(tree):
        return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree) if leaf.ndim)

    plan = found[4]
    assert plan.frozen == on_first(one.parts.frozen) and plan.trained == plan.gradient == on_first(one.state.trainable)
    assert plan.optimiser == on_first(one.state.opt_state) == 2 * plan.trained


@pytest.mark.slow
def test_what_grows_with_depth_grows_by_the_layer(plans):
    _, found = plans
    two, four, six = (found[layers] for layers in (2, 4, 6))
    assert four.flops - two.flops == pytest.approx(six.flops - four.flops) and four.flops > two.flops
    for kinds in ("collectives", "decode_collectives"):
        for kind in getattr(two, kinds):
            a, b, c = (getattr(plan, kinds)[kind] for plan in (two, four, six))
            assert b - a == c - b, kind
    for kind in ("all-gather", "all-reduce", "reduce-scatter"):
        assert four.collectives[kind] > two.collectives[kind] > 0
    assert six.kept == 3 * two.kept


def test_a_single_device_moves_nothing():
    plan = make_plan(recipe(), shape(2))
    assert sum(plan.collectives.values()) == sum(plan.decode_collectives.values()) == 0


def test_the_backward_pass_gathers_weights_again_instead_of_keeping_them():
    config = recipe(fsdp=2)
    plan = make_plan(dataclasses.replace(config, train=dataclasses.replace(config.train, remat="none")), shape(2))
    layers = Transformer.abstract(shape(2)).stacks[0]
    matrices = [leaf for leaf in jax.tree.leaves(nnx.state(layers)) if leaf.ndim >= 3 and leaf.shape[-1] != 8]  # the router is whole
    assert plan.collectives["all-gather"] >= 2 * 4 * sum(leaf.size for leaf in matrices)


def test_loops_count_as_often_as_they_run():
    text = """HloModule m

%region_1.spmd (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %r = f32[4]{0} all-reduce(f32[4]{0} %x), replica_groups={{0,1}}, to_apply=%add
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %w = (s32[], f32[4]{0}) while((s32[], f32[4]{0}) %t), condition=%c, body=%region_1.spmd, backend_config={"known_trip_count":{"n":"5"}}
  %g = f32[2,4]{1,0} all-gather(f32[1,4]{1,0} %y), replica_groups=[1,2]<=[2], dimensions={0}
  %n = f32[8]{0} all-reduce(f32[8]{0} %z), replica_groups={{0},{1}}, to_apply=%add
}
"""
    assert {kind: size for kind, size in collective_bytes(text).items() if size} == {"all-reduce": 5 * 2 * 16, "all-gather": 32}


def test_the_report_says_whether_it_fits_and_what_to_change(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(shape(2).to_hf()))
    config = recipe(expert=2)
    assert "estimate: FITS" in plan_report.text(config, chip="H200", price=3.0, shape=str(path))
    (tmp_path / "chips.json").write_text(json.dumps({"tiny": {"flops": 1e9, "memory": 1e5, "bandwidth": 1e9, "link": 1e9}}))
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, remat="none"))
    text = plan_report.text(config, chip="tiny", chips=str(tmp_path / "chips.json"), shape=str(path))
    assert "DOES NOT FIT" in text and "train.remat=full" in text


def test_unknown_chips_and_meshes_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(UserError, match="H100, H200, B200"):
        find_chip("H300")
    (tmp_path / "chips.json").write_text('{"x": {"flops": 1}}')
    with pytest.raises(UserError, match="is no table of chips"):
        find_chip("x", str(tmp_path / "chips.json"))
    with pytest.raises(MeshError, match="num_key_value_heads = 2"):
        make_plan(recipe(tensor=4), shape(2))
