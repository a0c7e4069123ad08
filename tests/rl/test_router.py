"""Router losses against transformers and NumPy; the selection bias against its rule."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_moe.rl.objective import make_objective, policy_objective
from jaxrl_moe.rl.router import balanced_bias, load_balance_loss, router_z_loss
from jaxrl_moe.rl.table import AlgorithmError
from jaxrl_moe.rl.types import RouterStats
from tests.helpers import oracles
from tests.helpers.close import assert_close
from tests.rl import cases

LAYERS = 3
ROWS = 4
TOKENS = 5
EXPERTS = 6
ACTIVE = 2
LOGITS = np.random.default_rng(0).normal(size=(LAYERS, ROWS, TOKENS, EXPERTS)).astype(np.float32) * 2
VALID = np.arange(TOKENS)[None] < np.array([5, 3, 1, 4])[:, None]


def stats(logits_LBTE, valid_BT):
    """RouterStats as the model sums them, from logits alone."""
    _, ids = jax.lax.top_k(logits_LBTE, ACTIVE)
    valid = valid_BT[None, ..., None]
    load = (jax.nn.one_hot(ids, EXPERTS).sum(axis=-2) * valid).sum(axis=(0, 1, 2)).astype(jnp.int32)
    return RouterStats((jax.nn.softmax(logits_LBTE) * valid).sum(axis=(0, 1, 2)),
                       (jax.nn.logsumexp(logits_LBTE, axis=-1) ** 2 * valid_BT[None]).sum(), load)


def inputs(logits_LBTE=LOGITS, valid_BT=VALID, load=None):
    """The router's part of LossInputs; the counts are always those of the whole minibatch."""
    seqs = cases.sequences()
    return dataclasses.replace(cases.padded(seqs, cases.weights(seqs)), router=stats(logits_LBTE, valid_BT),
                               num_routed=np.float32(LAYERS * VALID.sum()), expert_load_E=load)


def test_the_balancing_loss_and_its_gradient_are_those_of_transformers():
    torch = oracles.torch()
    from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func
    theirs = torch.tensor(LOGITS.reshape(LAYERS, -1, EXPERTS), requires_grad=True)
    expected = load_balancing_loss_func(tuple(theirs), EXPERTS, ACTIVE, torch.tensor(VALID.astype(np.int64)))
    expected.backward()
    value, gradient = jax.value_and_grad(lambda logits: load_balance_loss(inputs(logits)))(LOGITS)
    assert_close(value, expected.item())
    assert_close(gradient, theirs.grad.numpy().reshape(LOGITS.shape))


def test_an_even_load_with_even_probabilities_costs_the_active_experts():
    even = np.zeros((1, 1, EXPERTS, EXPERTS), np.float32)
    even[0, 0] = 1e-6 * np.stack([np.roll(np.arange(EXPERTS), shift) for shift in range(EXPERTS)])
    valid = np.ones((1, EXPERTS), bool)
    one = dataclasses.replace(inputs(even, valid), num_routed=np.float32(EXPERTS))
    np.testing.assert_array_equal(one.router.load_E, ACTIVE)
    assert_close(load_balance_loss(one), np.float32(ACTIVE))


def test_the_z_loss_and_its_gradient_are_those_of_numpy():
    logits = LOGITS.astype(np.float64)
    sums = np.exp(logits).sum(axis=-1)
    count = LAYERS * VALID.sum()
    value, gradient = jax.value_and_grad(lambda x: router_z_loss(inputs(x)))(LOGITS)
    assert_close(value, (np.log(sums) ** 2 * VALID).sum() / count)
    assert_close(gradient, 2 * (np.log(sums) * VALID)[..., None] * np.exp(logits) / sums[..., None] / count)


@pytest.mark.parametrize("rows", [[[0, 1], [2, 3]], [[0], [1], [2], [3]], [[3, 0, 2], [1]]], ids=str)
def test_router_losses_do_not_depend_on_the_split_into_micro_batches(rows):
    objective = make_objective(aux_loss_coef=0.3, z_loss_coef=0.2)

    def losses(logits, parts, load):
        found = [inputs(logits[:, part], VALID[part], load) for part in parts]
        return sum(objective.aux_loss_coef * load_balance_loss(one)
                   + objective.z_loss_coef * router_z_loss(one) for one in found)

    whole = jax.value_and_grad(losses)(LOGITS, [[0, 1, 2, 3]], None)
    split = jax.value_and_grad(losses)(LOGITS, rows, stats(LOGITS, VALID).load_E)
    assert_close(split, whole)
    local = jax.value_and_grad(losses)(LOGITS, rows, None)[0]
    assert abs(local - whole[0]) > 1e-3  # with each part's own load it would not be the same


def test_the_objective_adds_router_losses_with_their_coefficients():
    base, full = (policy_objective(inputs(), make_objective(**c)) for c in ({}, {
        "aux_loss_coef": 0.3,
        "z_loss_coef": 0.2
    }))
    assert_close(full.loss - base.loss, 0.3 * load_balance_loss(inputs()) + 0.2 * router_z_loss(inputs()))
    assert_close(base.metrics["moe/z_loss"], router_z_loss(inputs()))


def test_router_losses_on_a_dense_model_are_refused():
    with pytest.raises(AlgorithmError, match="this one is dense"):
        policy_objective(dataclasses.replace(inputs(), router=None), make_objective(aux_loss_coef=0.1))


def test_the_bias_moves_up_for_starved_experts_then_is_centred_and_bounded():
    bias = np.array([[0.1, -0.1, 0.0], [0.0, 0.0, 0.0]], np.float32)
    load = np.array([[9, 0, 3], [5, 5, 5]])
    expected = []
    for row, counts in zip(bias.astype(np.float64), load):
        mean = counts.sum() / 3
        moved = [b + 0.01 * (1 if mean > c else -1 if mean < c else 0) for b, c in zip(row, counts)]
        expected.append([min(max(b - sum(moved) / 3, -16), 16) for b in moved])
    assert_close(balanced_bias(bias, load, 0.01), np.array(expected))
    np.testing.assert_array_equal(balanced_bias(bias, load, 0.01)[1], 0)
    assert_close(balanced_bias(np.array([[30.0, 0.0, -30.0]]), load[:1], 1.0), np.array([[16.0, 2 / 3,
                                                                                          -16.0]]))


def test_the_bias_ends_an_uneven_choice():
    """A router that always prefers two of four experts by 0.2 of probability spreads its tokens evenly after
    0.2 / rate steps."""
    scores = np.random.default_rng(0).random((256, 4)) * 0.05 + np.array([0.2, 0.2, 0.0, 0.0])
    bias = np.zeros((1, 4), np.float32)
    loads = []
    for _ in range(250):
        chosen = np.argsort(-(scores + bias), axis=1)[:, :2]
        loads.append(np.bincount(chosen.ravel(), minlength=4))
        bias = np.asarray(balanced_bias(bias, loads[-1][None], 0.002))
    assert loads[0].tolist() == [256, 256, 0, 0
                                 ] and np.abs(np.array(loads[-10:]).mean(axis=0) / 128 - 1).max() < 0.2
