"""What evens out the experts' load: the auxiliary loss, which must see the whole minibatch, and the selection
bias."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.learning import samples as S
from jaxrl_moe.learning.objective import PolicyObjective
from jaxrl_moe.learning.programs import _balanced
from jaxrl_moe.learning.state import take_apart
from jaxrl_moe.model.moe import RouterBias
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.rl.objective import make_objective
from jaxrl_moe.runs.checkpoints.checkpoint import Checkpoints, Progress
from jaxrl_moe.runs.metrics import update_metrics
from jaxrl_moe.types import Request, SamplingParams
from tests.helpers import moe_case
from tests.helpers.close import assert_close, relative

BIASED = {"router_bias": True}
AUX = PolicyObjective(make_objective("reinforce", aux_loss_coef=1.0))
PLAIN = PolicyObjective(make_objective("reinforce"))
ROWS = moe_case.conversations(lengths=(30, 32, 31, 32))


@pytest.fixture(scope="module")
def made():
    one = moe_case.learner(overrides=BIASED, bias_rate=0.01)
    return one, jax.device_get(one.state)


@pytest.fixture
def biased(made):
    """A learner whose selection bias moves by 0.01 a step, as new; its programs are compiled once."""
    one, state = made
    one.state = jax.tree.map(jnp.array, state)
    return one


def biases(one):
    return np.concatenate(jax.tree.leaves(one.state.router_bias))


def set_biases(one, std=0.1):
    """Random biases, so that they matter."""
    one.state = one.state._replace(router_bias=jax.tree.map(
        lambda b: std * jax.random.normal(jax.random.key(3), b.shape), one.state.router_bias))


def aux_loss(total):
    """E sum_e f_e P_e from a minibatch's totals."""
    tokens = np.asarray(total.probability, np.float64).sum()
    return 8 * np.sum(np.asarray(total.load).sum(axis=0) / tokens * np.asarray(total.probability) / tokens)


def totals(parts, devices=1):
    """Of a minibatch in so many micro-batches on so many devices."""
    one = moe_case.learner(placement=make_placement({"data": devices}) if devices > 1 else None)
    batches = moe_case.batches(moe_case.conversations(lengths=(32, 25, 30, 32, 29, 31, 27, 30)), 256 // parts,
                               pack=False)
    assert len(batches) == parts
    return jax.device_get(one.totals(batches, AUX, count_load=True))


@pytest.fixture(scope="module")
def whole():
    return totals(1)


@pytest.mark.parametrize("parts, devices", [(4, 1), (4, 2), pytest.param(2, 4, marks=pytest.mark.slow)])
def test_the_balancing_loss_does_not_depend_on_micro_batches_or_devices(whole, parts, devices):
    total = totals(parts, devices)
    assert_close((total.gradient[0], total.loss), (whole.gradient[0], whole.loss))
    np.testing.assert_array_equal(total.load, whole.load)


def test_the_balancing_loss_counts_replayed_experts_and_trains_the_live_softmax():
    samples = moe_case.conversations()
    samples = S.with_values(samples, "expert_ids_TLA", moe_case.routed(samples))
    one = moe_case.learner()
    batches = moe_case.batches(samples)
    total = one.totals(batches, AUX, count_load=True)
    plain = one.totals(batches, PLAIN)
    assert_close(total.loss - plain.loss, np.float32(aux_loss(total)), 1e-4)
    difference = jax.tree.map(lambda a, b: a - b, total.gradient[0], plain.gradient[0])
    router = [value for path, value in nnx.to_flat_state(difference) if path[-2] == "router"]
    assert min(float(jnp.abs(jax.tree.leaves(value)[0]).max()) for value in router) > 1e-4


def skewed():
    """A model in which one direction of the hidden states, common to all tokens, sends most of them to
    experts 0 and 1."""
    model = moe_case.model()
    model.embed.weight.set_value(model.embed.weight[...] + 0.3)
    router = model.stacks[0].mlp.router
    router.weight.set_value(router.weight[...].at[..., :2].add(0.15))
    return model


def test_a_skewed_router_becomes_even_with_the_loss_and_not_without():
    batches = moe_case.batches(ROWS, 128, pack=False)
    violation = {}
    one = moe_case.learner_over(skewed(), dataclasses.replace(moe_case.SECTION, learning_rate=3e-3))
    state = jax.device_get(one.state)
    for coef in (0.0, 0.5):
        objective = PolicyObjective(make_objective("reinforce", aux_loss_coef=coef))
        one.state = jax.tree.map(jnp.array, state)
        rows = [
            update_metrics([jax.device_get(one.update(batches, objective, count_load=coef > 0))])
            for _ in range(30)
        ]
        violation[coef] = [row["moe/max_vio"] for row in rows]
        assert all(row["moe/dropped"] == 0 for row in rows)
        assert (rows[-1]["moe/aux_loss"] < rows[0]["moe/aux_loss"] - 0.5) == (coef > 0)
    assert violation[0.0][0] == violation[0.5][0] > 2
    assert violation[0.5][-1] < 0.5 * violation[0.5][0]
    assert min(violation[0.0]) > 0.7 * violation[0.0][0]


def test_the_bias_selects_and_leaves_the_gates_alone(biased):
    """The biased model computes what the model without bias does when it is given the biased choice."""
    batch, = moe_case.batches(moe_case.conversations())
    set_biases(biased)
    choice = biased.forward(batch, routes=True)
    plain = moe_case.learner()
    live = plain.forward(batch, routes=True)
    assert (np.asarray(choice.expert_ids_BTLA) != np.asarray(live.expert_ids_BTLA)).any()
    ids = np.moveaxis(np.asarray(choice.expert_ids_BTLA), 2, 0)
    given = plain.forward(dataclasses.replace(batch, expert_ids_LBTA=ids))
    assert_close(choice.logprobs_BT, given.logprobs_BT)


def test_each_optimiser_step_moves_the_bias_by_its_rule_once_whatever_the_micro_batches(biased):
    expected = np.zeros((2, 8))
    for tokens in (128, 32, 128):
        load = np.asarray(biased.update(moe_case.batches(ROWS, tokens, pack=False), PLAIN)["load"])
        for layer in range(2):
            moved = [
                b + 0.01 * np.sign(load[layer].mean() - count)
                for b, count in zip(expected[layer], load[layer])
            ]
            expected[layer] = np.clip(moved - np.mean(moved), -16, 16)
        assert_close(biases(biased), expected)
    assert np.abs(expected).max() > 0.02


def test_a_step_that_is_not_finite_leaves_the_bias_alone(biased):
    batches = moe_case.batches(ROWS, 128, pack=False)
    biased.update(batches, PLAIN)
    before = biases(biased)
    broken = [
        dataclasses.replace(batch, weights_BT=np.full_like(batch.weights_BT, np.nan)) for batch in batches
    ]
    assert not biased.update(broken, PLAIN)["finite"]
    np.testing.assert_array_equal(biases(biased), before)
    assert np.abs(before).max() > 0


def test_the_bias_resumes_from_a_checkpoint_to_the_same_bits(biased, tmp_path):
    batches = moe_case.batches(ROWS, 128, pack=False)
    biased.update(batches, PLAIN)
    checkpoints = Checkpoints(tmp_path, keep=1, identity={}, config={})
    checkpoints.save(biased.state, Progress(step=1))
    biased.update(batches, PLAIN)
    expected = jax.device_get(biased.state)
    set_biases(biased)
    biased.state, _ = checkpoints.restore(biased.state)
    biased.update(batches, PLAIN)
    for got, want in zip(jax.tree.leaves(biased.state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(got, want)


def test_the_engine_chooses_by_the_published_bias(biased):
    one = biased
    engine = JaxEngine(one.model(), dataclasses.replace(moe_case.ROLLOUT, max_tokens=8), max_prompt_tokens=12)
    set_biases(one)
    engine.publish(one.params(), 1)
    ids = np.arange(2, 13, dtype=np.int32)
    ((completion,),) = engine.generate([Request(ids, SamplingParams(8, return_routed_experts=True), 0)])
    (sample,) = S.from_conversations([(np.concatenate([ids, completion.ids]), np.ones(19, np.int32))])
    (batch,) = moe_case.batches([sample])
    used = np.asarray(one.forward(batch, routes=True).expert_ids_BTLA)[0, :18]
    np.testing.assert_array_equal(np.sort(completion.expert_ids), np.sort(used))
    set_biases(one, 0.0)
    assert (np.sort(used) != np.sort(np.asarray(one.forward(batch,
                                                            routes=True).expert_ids_BTLA)[0, :18])).any()


def test_the_load_of_layer_runs_reaches_their_own_biases():
    """Twelve runs of one sparse layer each: the tenth's bias follows the tenth row of the load."""
    config = dict(num_layers=23, sparse_layers=(True, False) * 11 + (True,), windows=(0,) * 23,
                  router_bias=True)
    model = Transformer.abstract(dataclasses.replace(moe_case.CONFIG, **config))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), nnx.state(model, RouterBias))
    load = np.zeros((12, 8), np.int32)
    load[np.arange(12), np.arange(12) % 8] = 5
    moved = nnx.to_flat_state(_balanced(zeros, load, 1.0))
    for path, value in moved:
        assert int(np.argmin(np.asarray(jax.tree.leaves(value)[0])[0])) == path[1] // 2 % 8, path


@pytest.mark.parametrize("lora, train_router, expected", [
    (None, None, True), (None, False, False), (moe_case.LORA, None, False), (moe_case.LORA, True, True)])
def test_routers_are_trained_in_full_fine_tuning_and_frozen_under_adapters_unless_asked_otherwise(
        lora, train_router, expected):
    model = moe_case.model(lora, router_bias=True)
    _, trainable, bias = take_apart(model, train_router)
    names = [path[-2:] for path, _ in nnx.to_flat_state(trainable)]
    assert (("router", "weight") in names) == expected and ("router", "bias") not in names
    assert [path[-2:] for path, _ in nnx.to_flat_state(bias)] == [("router", "bias")]


def test_a_frozen_router_hands_the_balancing_loss_on_to_the_layers_below():
    batches = moe_case.batches(moe_case.conversations())
    one = moe_case.learner(train_router=False)
    with_loss, without = (one.totals(batches, objective).gradient[0] for objective in (AUX, PLAIN))
    pairs = {path: relative(*map(jax.tree.leaves, (value, other)))
             for (path, value), (_, other) in zip(nnx.to_flat_state(with_loss), nnx.to_flat_state(without))}
    assert not any("router" in path for path in pairs)
    assert pairs["embed", "weight"] > 1e-3
