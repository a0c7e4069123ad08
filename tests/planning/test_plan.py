"""Plans: exact where they can be, linear in depth, refused where nothing fits."""
import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxrl_moe.config import ConfigError, RolloutMeshSection, base, resolve
from jaxrl_moe.distributed.chips import DEFAULT_FRACTION, find_chip
from jaxrl_moe.distributed.mesh import MeshError, make_placement
from jaxrl_moe.distributed.placements import mesh_of
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.planning import report as plan_report
from jaxrl_moe.planning.buffers import temporaries
from jaxrl_moe.planning.costs import Rates
from jaxrl_moe.planning.hlo import collective_bytes
from jaxrl_moe.planning.plan import make_plan
from jaxrl_moe.planning.update import micro_batch_shapes
from jaxrl_moe.planning.waiting import JudgingTimes
from jaxrl_moe.types import UserError


def shape(layers):
    return ModelConfig("qwen3_moe", 66, 32, layers, 4, 2, 8, 48, (True,) * layers, (0,) * layers,
                       num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16, norm_topk_prob=True)


def recipe(**mesh):
    config = base()
    config.model.path = config.data.path = "unused"
    config.model.dtype = "float32"
    config.lora.rank = 4
    config.data.max_prompt_tokens = 32
    config.rollout.max_tokens = 32
    config.rollout.slots = 4
    config.train.tokens_per_micro_batch = 512
    config.train.remat = "full"
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
    placement = make_placement({"fsdp": 2, "expert": 2, "tensor": 2})
    one = build_learner(model, LearnerSettings(config.optimizer, 100), placement)

    def on_first(tree):
        return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree) if leaf.ndim)

    plan = found[4]
    assert plan.frozen == on_first(
        one.parts.frozen) and plan.trained == plan.gradient == on_first(one.state.trainable)
    assert plan.optimiser == on_first(one.state.opt_state) == 2 * plan.trained


@pytest.mark.slow
def test_what_grows_with_depth_grows_by_the_layer(plans):
    _, found = plans
    two, four, six = (found[layers] for layers in (2, 4, 6))
    assert four.flops - two.flops == pytest.approx(six.flops - four.flops) and four.flops > two.flops
    for program in ("gradients", "apply", "decode"):
        for kind in two.gradients.collectives:
            a, b, c = (getattr(plan, program).collectives[kind] for plan in (two, four, six))
            assert b - a == c - b, (program, kind)
    for kind in ("all-gather", "all-reduce", "reduce-scatter"):
        assert four.gradients.collectives[kind] > two.gradients.collectives[kind] > 0
    assert six.kept == 3 * two.kept
    grown = four.gradients.temporary - two.gradients.temporary
    assert grown > 0 and six.gradients.temporary - four.gradients.temporary == pytest.approx(grown, rel=0.05)


@pytest.fixture(scope="module")
def alone():
    return make_plan(recipe(), shape(2))


def test_a_single_device_moves_nothing(alone):
    assert sum(alone.gradients.collectives.values()) == sum(alone.decode.collectives.values()) == 0


def test_the_backward_pass_gathers_weights_again_instead_of_keeping_them():
    config = recipe(fsdp=2)
    plan = make_plan(dataclasses.replace(config, train=dataclasses.replace(config.train, remat="none")),
                     shape(2))
    layers = Transformer.abstract(shape(2)).stacks[0]
    # the router is whole
    matrices = [leaf for leaf in jax.tree.leaves(nnx.state(layers)) if leaf.ndim >= 3 and leaf.shape[-1] != 8]
    assert plan.gradients.collectives["all-gather"] >= 2 * 4 * sum(leaf.size for leaf in matrices)


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
    assert {
        kind: size for kind, size in collective_bytes(text).items() if size
    } == {
        "all-reduce": 5 * 2 * 16,
        "all-gather": 32
    }


def test_the_report_says_whether_it_fits_and_what_to_change(alone, tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(shape(2).to_hf()))
    config = recipe()
    monkeypatch.setattr(plan_report, "make_plan", lambda *_: alone)
    text = plan_report.text(config, chip="H200", rates=Rates(3.0, 221.0), shape=str(path))
    for words in ("estimate: FITS", "adapters, float32", "optimiser state", "kept for the backward pass",
                  "KV pool", "peak of the rollout", "collectives per device", "model FLOPs",
                  "time floor on H200", "tokens/s", "GPU-hours", "at 3 an hour",
                  "budget: 221 at 3 an hour are 73.7 GPU-hours"):
        assert words in text, words
    assert "judges" not in text
    asked = plan_report.text(config, chip="H200", shape=str(path), asked=JudgingTimes(minutes=10.0))
    assert "judges: 6,400 rollouts (100 steps of 64), 10.0 min each, 4 at a time: 266.7 h" in asked
    (tmp_path / "chips.json").write_text(
        json.dumps({"tiny": {
            "flops": 1e9,
            "memory": 1e5,
            "bandwidth": 1e9,
            "link": 1e9
        }}))
    for remat, mend in (("none", "train.remat=mlp or full"), ("mlp", "train.remat=full")):
        one = dataclasses.replace(config, train=dataclasses.replace(config.train, remat=remat))
        text = plan_report.text(one, chip="tiny", chips=str(tmp_path / "chips.json"), shape=str(path))
        assert "DOES NOT FIT" in text and mend in text


def test_arrays_in_the_hosts_memory_are_no_part_of_the_peak_of_rollouts(alone):
    full = dataclasses.replace(alone, reference=alone.trained, published=alone.trained)
    away = dataclasses.replace(full, offload=("optimizer", "reference"))
    assert away.on_host == full.optimiser + full.reference and full.on_host == 0
    assert full.rollout_peak() - away.rollout_peak() == away.on_host
    step = away.trained + away.gradient + away.frozen + away.published + away.optimiser + away.apply.extra
    assert full.update_peak() > away.update_peak() >= step  # all moments are there while a step is applied


def assert_conversions_are_told_apart(program, *shapes, options=None):
    def found(dtype):
        arguments = [shape if shape.dtype == jnp.int32 else shape.update(dtype=dtype) for shape in shapes]
        lowered = program.lower(*arguments)
        return temporaries(lowered, lowered.compile(options))

    float32 = found(jnp.float32)
    half = found(jnp.bfloat16)
    assert float32.elsewhere == float32.compiled < 2**20
    assert half.compiled >= 64 * 2**14 * 4 and half.elsewhere < 2**20


def test_what_the_cpu_converts_to_write_rows_is_told_apart():
    # XLA's default, which conftest switches off where there is a choice
    emitters = "xla_cpu_use_fusion_emitters"
    if emitters not in os.environ["XLA_FLAGS"]:
        pytest.skip("from jaxlib 0.11 on, the CPU writes rows of bfloat16 without a conversion")
    grown = jax.jit(lambda x, rows, ids: x.at[ids].set(rows), donate_argnums=0)
    shapes = [
        jax.ShapeDtypeStruct(*shape)
        for shape in (((64, 2**14), jnp.float32), ((3, 2**14), jnp.float32), ((3,), jnp.int32))
    ]
    assert_conversions_are_told_apart(grown, *shapes, options={emitters: True})


def test_what_the_cpu_converts_to_sum_over_devices_is_told_apart():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.PartitionSpec("data")
    total = jax.shard_map(lambda x: jax.lax.psum_scatter(x[0], "data", tiled=True), mesh=mesh, in_specs=rows,
                          out_specs=rows)
    shape = jax.ShapeDtypeStruct((8, 64, 2**14), jnp.float32, sharding=jax.sharding.NamedSharding(mesh, rows))
    assert_conversions_are_told_apart(jax.jit(total), shape)


def test_a_mesh_can_be_given_as_text_if_the_recipe_does_not_say_otherwise():
    config = recipe(expert=2)
    mesh = plan_report.with_mesh(config, "fsdp=4,expert=2").mesh
    assert (mesh.fsdp, mesh.expert, mesh.tensor) == (4, 2, 1) and plan_report.with_mesh(config,
                                                                                        None) == config
    with pytest.raises(MeshError, match="expert = 4, and the mesh section has 2"):
        plan_report.with_mesh(config, "expert=4")
    for text in ("fsdp", "fsdp=two", "fsdp=2,fsdp=2", "rows=2", ","):
        with pytest.raises(MeshError, match="cannot be read"):
            plan_report.with_mesh(config, text)


def test_a_mesh_is_planned_as_runs_would_take_it_and_ragged_as_gather_on_cpus(alone):
    config = recipe(expert=4, transport="ragged")
    assert mesh_of(config, shape(2), planned=jax.devices()).layout.transport == "gather"
    note = "note: mesh.transport = ragged, which cannot be compiled on a CPU, is counted as gather."
    assert plan_report.left_out(alone, config) == [note]
    assert not plan_report.left_out(dataclasses.replace(alone, compiled_for="NVIDIA H200"), config)
    assert not plan_report.left_out(alone, recipe())
    with pytest.raises(MeshError, match="goes in one stage"):
        mesh_of(recipe(expert=4, transport="ragged", host_devices=2), shape(2), planned=jax.devices())
    place = make_placement({"data": 2, "context": 2})
    assert micro_batch_shapes(recipe(), place)[0].tokens_BT.shape == (8, 64)
    small = dataclasses.replace(recipe(), train=dataclasses.replace(recipe().train,
                                                                    tokens_per_micro_batch=100))
    with pytest.raises(UserError, match="cannot hold 2 rows of 64 tokens"):
        micro_batch_shapes(small, place)


@pytest.mark.slow
def test_training_and_rollout_on_devices_of_their_own_are_planned_each_by_itself():
    config = recipe(tensor=2)
    config = dataclasses.replace(config, rollout_mesh=RolloutMeshSection(data=1))
    assert plan_report.device_count(config, 0) == 3
    plan = make_plan(config, shape(2))
    weights = nnx.state(Transformer.abstract(shape(2), lora=LoraConfig(4, 32.0)))
    assert (plan.devices, plan.drawing, plan.published) == (2, 1, 0)
    # whole, and training's in halves
    assert plan.active_bytes == sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(weights))
    drawn = max(program.extra for program in (plan.decode, plan.prefill, plan.copy_pages))
    assert plan.rollout_peak(
    ) == plan.active_bytes + plan.kv + drawn and plan.frozen < 0.7 * plan.active_bytes
    assert sum(plan.decode.collectives.values()) == 0 < sum(plan.gradients.collectives.values())
    chip = find_chip("H200")
    assert sum(" x H200 that " in line for line in plan_report.memory_lines(plan, config, chip, "H200")) == 2
    small = dataclasses.replace(
        chip, memory=(plan.rollout_peak(True) + plan.update_peak(True)) / 2 / DEFAULT_FRACTION)
    text = plan_report.verdict(plan, config, small, "it")
    roles = ("training ", "rollout ")
    larger = plan.update_peak(True) < plan.rollout_peak(True)
    assert f"{roles[larger]}DOES NOT FIT" in text and f"{roles[not larger]}FITS" in text


@pytest.mark.parametrize("name, value", [("transport", "gather"), ("host_devices", 4)])
def test_an_expert_axis_that_turns_out_to_be_one_leaves_its_settings_without_effect(name, value):
    section = {"data": 8, "expert": -1, name: value}
    with pytest.raises(ConfigError, match=f"mesh.{name} = .* has no effect, as mesh.expert = -1, here 1,"):
        make_plan(recipe(**section), shape(2))


def test_unknown_chips_and_meshes_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(UserError, match="H100, H200, B200"):
        find_chip("H300")
    (tmp_path / "chips.json").write_text('{"x": {"flops": 1}}')
    with pytest.raises(UserError, match="is no table of chips"):
        find_chip("x", str(tmp_path / "chips.json"))
    with pytest.raises(MeshError, match="num_key_value_heads = 2"):
        make_plan(recipe(tensor=4), shape(2))


@pytest.mark.parametrize("text, words", [("{", "is no JSON"), ("[]", "a list"), ("{}", "no architecture"),
                                         ('{"model_type": "qwen3", "num_attention_heads": "4"}', "heads")])
def test_a_config_json_that_cannot_be_read_is_named(tmp_path, text, words):
    path = tmp_path / "shape.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^{path}.*{words}"):
        plan_report.model_config(resolve(base()), str(path))
