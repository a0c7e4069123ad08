"""A train step on a mesh of eight virtual devices equals that of one device: loss, every gradient, updated
weights."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from jaxrl_moe.config import OptimizerSection
from jaxrl_moe.distributed.collectives import AXES, inside
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.distributed.sharding import cut
from jaxrl_moe.learning.batch import micro_batches, sample_weights
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.learning.objective import PolicyObjective
from jaxrl_moe.learning.samples import from_conversations, with_values
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.rl.objective import make_objective
from tests.helpers.close import assert_close
from tests.helpers.emulated import ragged_all_to_all

CONFIG = ModelConfig("qwen3_moe", 65, 32, 2, 4, 2, 8, 48, (True, False), (0, 7), num_experts=8,
                     num_experts_per_tok=2, moe_intermediate_size=16, norm_topk_prob=True)
LORA = LoraConfig(4, 8.0)
MESHES = [{"data": 8}, {"fsdp": 8}, {"tensor": 2}, {"context": 4}, {"expert": 4}, {"expert": 8},
          {"fsdp": 2, "tensor": 2, "expert": 2}, {"context": 2, "tensor": 2},
          {"expert": 4, "transport": "ragged"}, {"expert": 4, "host_devices": 2},
          {"data": 2, "expert": 4, "transport": "capacity", "capacity_factor": 8.0, "host_devices": 2}]
LIKE_OTHERS = [{"context": 2}, {"expert": 2}, {"data": 2, "expert": 4}]  # axes and exchanges of some above
PADDED = [{"expert": 4, "grouped_matmul": "padded"},  # what a GPU uses
          {"expert": 4, "transport": "capacity", "capacity_factor": 8.0, "grouped_matmul": "padded"}]
OBJECTIVE = PolicyObjective(
    make_objective("reinforce", entropy_coef=0.01, aux_loss_coef=0.01, z_loss_coef=1e-3))
# so that Adam does not blow rounding up where a gradient is almost 0
SECTION = OptimizerSection(learning_rate=1e-2, eps=1e-3)


def learner(lora, mesh, remat="none"):
    """On a mesh given by its axes and options, or by None on one device; grouped_matmul is the model's
    backend."""
    mesh = dict(mesh or {})
    model = Transformer(CONFIG, lora=lora, rngs=nnx.Rngs(0),
                        grouped_matmul=mesh.pop("grouped_matmul", "auto"))
    if lora:
        for _, value in nnx.to_flat_state(nnx.state(model, nnx.LoRAParam)):
            value.set_value(value[...] + 0.02)
    sizes = {name: mesh.pop(name) for name in AXES if name in mesh}
    placement = make_placement(sizes, **mesh) if sizes else None
    return build_learner(model, LearnerSettings(SECTION, 10, remat=remat), placement)


def batches(experts=None):
    """One micro-batch; `experts`: the ids that replayed tokens go to, or None to route live."""
    rng = np.random.default_rng(0)
    chosen = from_conversations([(rng.integers(0, 64, n), np.r_[0, rng.integers(0, 2, n - 2), 1])
                                 for n in (30, 17, 5, 31, 2, 20, 9, 28)])
    if experts is not None:
        chosen = with_values(chosen, "expert_ids_TLA", [
            np.broadcast_to(np.asarray(experts, np.int8), (len(sample.ids_T), CONFIG.num_sparse_layers, 2))
            for sample in chosen
        ])
    [part] = micro_batches(chosen, 8 * 32, False, sample_weights(chosen, "token-mean"))
    return [part.batch]


def totals(one, batch_list):
    total = one.totals(batch_list, OBJECTIVE, entropy=True)
    return jax.device_get((cut(total.gradient[0], CONFIG.vocab_size), total.loss, total.means, total.load))


def gradients(lora, mesh, remat="none"):
    return totals(learner(lora, mesh, remat), batches())


def updated(lora, mesh):
    """(the trained arrays, the gradient's norm) after two updates."""
    one = learner(lora, mesh)
    norms = [one.update(batches(), OBJECTIVE, entropy=True)["policy/grad_norm"] for _ in range(2)]
    return jax.device_get((cut(one.state.trainable, CONFIG.vocab_size), norms))


@pytest.fixture(scope="module", params=[LORA, None], ids=["lora", "full"])
def reference(request):
    return request.param, gradients(request.param, None)


@pytest.mark.parametrize("mesh", [*MESHES, *(pytest.param(mesh, marks=pytest.mark.slow)
                                             for mesh in LIKE_OTHERS + PADDED)],
                         ids=lambda mesh: "-".join(f"{axis}{size}" for axis, size in mesh.items()))
def test_a_step_on_a_mesh_has_the_gradients_of_one_device(reference, mesh, monkeypatch):
    monkeypatch.setattr(jax.lax, "ragged_all_to_all", ragged_all_to_all)
    lora, expected = reference
    got = gradients(lora, mesh)
    for (path, one), (_, other) in zip(*(jax.tree_util.tree_leaves_with_path(x[0]) for x in (got, expected)),
                                       strict=True):
        assert_close(one, other, 1e-5), path
    assert_close(got[1:3], expected[1:3])
    np.testing.assert_array_equal(got[3], expected[3])


@pytest.mark.parametrize("lora", [pytest.param(LORA, marks=pytest.mark.slow), None], ids=["lora", "full"])
def test_updates_on_a_mesh_give_the_weights_of_one_device(lora):
    before = jax.device_get(learner(lora, None).state.trainable)
    want = updated(lora, None)
    assert_close(updated(lora, {"fsdp": 2, "tensor": 2, "expert": 2}), want, 1e-5)
    moved = [
        np.abs(new - old).max()
        for new, old in zip(jax.tree.leaves(want[0]), jax.tree.leaves(before), strict=True)
    ]
    assert np.mean(np.array(moved) > 1e-3) > 0.8


@pytest.fixture(scope="module")
def replayed():
    one = learner(LORA, None)
    return {experts: totals(one, batches(experts)) for experts in ((5, 6), (0, 3))}


@pytest.mark.parametrize("mesh", [PADDED[0], pytest.param(PADDED[1], marks=pytest.mark.slow)],
                         ids=["gather", "capacity"])
def test_experts_that_get_every_token_and_those_that_get_none_have_the_gradients_of_one_device(
        replayed, mesh):
    """The base is frozen. (5, 6): two devices get every token, two none; (0, 3): one device's second expert,
    another's first get none."""
    one = learner(LORA, mesh)
    for experts, expected in replayed.items():
        got = totals(one, batches(experts))
        assert_close(got[:3], expected[:3], 1e-5)
        np.testing.assert_array_equal(got[3], expected[3])
        assert (got[3] > 0).nonzero()[1].tolist() == [*experts] * CONFIG.num_sparse_layers


@pytest.mark.slow
def test_dropout_on_parts_of_a_width_is_that_of_the_whole():
    lora = LoraConfig(4, 8.0, targets=("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), dropout=0.3)
    got = gradients(lora, {"tensor": 2}, "mlp")
    expected = gradients(lora, None)
    assert_close(got[:3], expected[:3], 1e-5)
    assert abs(expected[1] / gradients(dataclasses.replace(lora, dropout=0.0), None)[1] - 1) > 1e-4


def test_rematerialisation_on_a_mesh_changes_no_gradient(reference):
    lora, expected = reference
    assert_close(gradients(lora, {"fsdp": 2, "expert": 2, "tensor": 2}, "mlp")[:3], expected[:3], 1e-5)


def test_rematerialisation_keeps_as_little_with_weights_split_by_fsdp():
    # the MLP's hidden products are most of what is kept
    config = ModelConfig("qwen3", 64, 32, 4, 2, 2, 16, 1024, (False,) * 4, (0,) * 4)
    place = make_placement({"fsdp": 2})
    tokens = jnp.zeros((8, 64), jnp.int32)
    graphdef, params = nnx.split(Transformer(config, rngs=nnx.Rngs(0)))
    specs = place.specs(params)

    def temporary(remat):
        def local(params, tokens):
            def loss(params):
                with inside(place.layout):
                    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
                    call = Pass(positions, jnp.ones_like(tokens), remat=remat)
                    return nnx.merge(graphdef, params)(tokens, call)[0].sum()
            return jax.grad(loss)(params)

        mapped = jax.shard_map(local, mesh=place.mesh, in_specs=(specs, PartitionSpec("fsdp")),
                               out_specs=specs, check_vma=False)
        return jax.jit(mapped).lower(place.put(params), tokens).compile().memory_analysis().temp_size_in_bytes

    assert temporary("mlp") < temporary("none") / 2


def test_adapters_of_experts_are_split_as_the_experts_are():
    place = make_placement({"expert": 4})
    specs = nnx.to_flat_state(place.specs(nnx.state(Transformer.abstract(CONFIG, lora=LORA))))
    found = {path[-1] for path, spec in specs if "mlp" in path and spec.get_value()[1:2] == ("expert",)}
    assert found == {"weight", "lora_a", "lora_b"}
    assert not any("expert" in spec.get_value() for path, spec in specs if "attention" in path)


def test_a_vocabulary_that_does_not_divide_is_padded_inside_and_cut_outside():
    model = Transformer(CONFIG, lora=None, rngs=nnx.Rngs(0))
    table = np.asarray(model.embed.weight[...])
    one = build_learner(model, LearnerSettings(OptimizerSection(), 10), make_placement({"tensor": 2}))
    assert one.params()["embed"]["weight"][...].shape == (66, 32)
    np.testing.assert_array_equal(one.model().embed.weight[...], table)
    assert one.model().lm_head.weight[...].shape == (32, 65)
