import copy
import dataclasses

import jax
import numpy as np
import pytest

from jaxrl_moe.rl.losses import LOSSES, Clip, ClipBounds, RatioBounds
from jaxrl_moe.rl.table import AlgorithmError, check_takes, configure, lookup
from tests.rl import cases, oracle

ALL = sorted(LOSSES)


def token_loss(name, inputs, settings=None):
    return LOSSES[name].function(inputs, settings or LOSSES[name].settings)


@pytest.mark.parametrize("spread", [0.4, 15.0], ids=["near", "past-the-clamps"])
@pytest.mark.parametrize("name", ALL)
def test_every_loss_equals_the_loop_over_tokens(name, spread):
    seqs = cases.sequences(spread=spread)
    settings = dataclasses.asdict(LOSSES[name].settings)
    got = cases.unpadded(token_loss(name, cases.padded(seqs, np.ones(len(seqs)))).loss_BT, seqs)
    for values, seq in zip(got, seqs):
        inside = oracle.tokens(seq)
        expected = np.array(oracle.policy_loss(name, seq, seq["p"], settings))
        cases.assert_close(values[inside], expected[inside], 3e-5)


@pytest.mark.parametrize("name", ALL)
def test_every_loss_has_the_gradient_of_finite_differences_with_its_held_factors(name):
    seqs = cases.sequences(seed=3)
    settings = LOSSES[name].settings
    weights = cases.weights(seqs)
    with jax.enable_x64(True):
        batch = cases.padded(seqs, weights, dtype=np.float64)

        def loss(p):
            token = token_loss(name, dataclasses.replace(batch, logprobs_BT=p), settings)
            return (token.loss_BT * batch.weights_BT * batch.mask_BT).sum()

        got = cases.unpadded(jax.grad(loss)(batch.logprobs_BT), seqs)
    expected = finite_differences(seqs, name, dataclasses.asdict(settings))
    cases.assert_close(np.concatenate(got), np.concatenate(expected), 1e-6)
    assert np.abs(np.concatenate(expected)).max() > 1e-3


def test_a_loss_whose_formula_is_nowhere_is_told_where_to_put_it():
    (seq,) = two_tokens([0, 0], [1, -1])
    with pytest.raises(NotImplementedError, match="'own'.* add it to policy_loss in tests/rl/oracle.py"):
        oracle.policy_loss("own", seq, seq["p"], {})


def finite_differences(seqs, name, settings, step=1e-6):
    held = [list(s["p"]) for s in seqs]
    gradients = [np.zeros(len(s["p"])) for s in seqs]
    for i, seq in enumerate(seqs):
        for t in range(len(seq["p"])):
            sides = []
            for sign in (1, -1):
                moved = copy.deepcopy(seqs)
                moved[i]["p"][t] += sign * step
                sides.append(oracle.objective(moved, held, name, settings, "seq-mean-token-mean"))
            gradients[i][t] = (sides[0] - sides[1]) / (2 * step)
    return gradients


def two_tokens(log_ratios, advantages):
    """A sequence of two trained tokens with o = q = -1."""
    p = [-1 + x for x in log_ratios]
    old = [-1.0, -1.0]
    return [{"p": p, "o": old, "q": old, "f": old, "H": old, "m": [1, 1], "A": advantages, "group": 0}]


LN2 = float(np.log(2))


def test_clipped_surrogate_gives_the_expected_array():
    # r = 2 with A = 1 is clipped to 1.2; r = 2 with A = -1 is not clipped at all
    token = token_loss("clipped_surrogate", cases.padded(two_tokens([LN2, LN2], [1, -1]), [1]))
    np.testing.assert_allclose(token.loss_BT[0, :2], [-1.2, 2.0], rtol=1e-6)
    assert token.clipped_high_BT[0, :2].tolist() == [True, False]
    # r = 1/2 with A = 1 keeps its gradient; with A = -1 it is clipped to 0.8
    token = token_loss("clipped_surrogate", cases.padded(two_tokens([-LN2, -LN2], [1, -1]), [1]))
    np.testing.assert_allclose(token.loss_BT[0, :2], [-0.5, 0.8], rtol=1e-6)
    assert token.clipped_low_BT[0, :2].tolist() == [False, True]


def test_dual_clip_bounds_the_loss_of_a_negative_advantage():
    token = token_loss("dual_clip", cases.padded(two_tokens([3 * LN2, 3 * LN2], [-2, 2]), [1]))
    np.testing.assert_allclose(token.loss_BT[0, :2], [6.0, -2.4], rtol=1e-6)


def test_gspo_uses_one_ratio_for_the_whole_sequence():
    # geometric mean of 4 and 1 is 2
    token = token_loss("gspo", cases.padded(two_tokens([2 * LN2, 0], [-1, -1]), [1]))
    np.testing.assert_allclose(token.loss_BT[0, :2], [2.0, 2.0], rtol=1e-6)
    token = token_loss("gspo", cases.padded(two_tokens([2 * LN2, 0], [1, 1]), [1]))
    np.testing.assert_allclose(token.loss_BT[0, :2], [-1.0004, -1.0004], rtol=1e-6)


def test_gspo_has_its_own_clip_range():
    assert LOSSES["gspo"].settings == LOSSES["gspo_token"].settings == Clip(3e-4, 4e-4)


def test_gspo_sequence_and_token_forms_have_equal_gradients_for_constant_advantages():
    seqs = cases.sequences(seed=5, spread=1e-4, token_advantages=False)
    batch = cases.padded(seqs, cases.weights(seqs))

    def loss(p, name):
        token = token_loss(name, dataclasses.replace(batch, logprobs_BT=p))
        return (token.loss_BT * batch.weights_BT * batch.mask_BT).sum()

    gradients = [jax.grad(loss)(batch.logprobs_BT, name) for name in ("gspo", "gspo_token")]
    cases.assert_close(gradients[0], gradients[1])
    assert np.abs(gradients[0]).max() > 1e-3


def test_gspo_token_clamps_the_exponent_at_ten():
    token = token_loss("gspo_token", cases.padded(two_tokens([15, 15], [-1, -1]), [1]))
    np.testing.assert_allclose(token.loss_BT[0, :2], np.exp([10.0, 10.0]), rtol=1e-5)


def test_cispo_bounds_the_ratio_absolutely_and_keeps_every_gradient():
    seqs = two_tokens([3 * LN2, -LN2], [1, 1])
    batch = cases.padded(seqs, [1])
    token = token_loss("cispo", batch)
    np.testing.assert_allclose(token.loss_BT[0, :2], [-5 * (-1 + 3 * LN2), -0.5 * (-1 - LN2)], rtol=1e-6)
    gradient = jax.grad(lambda p: token_loss("cispo", dataclasses.replace(batch, logprobs_BT=p)).loss_BT[
        0, :2].sum())
    np.testing.assert_allclose(gradient(batch.logprobs_BT)[0, :2], [-5, -0.5], rtol=1e-6)
    narrow = token_loss("cispo", batch, RatioBounds(0.8, 1.2))
    assert (narrow.clipped_low_BT[0, :2].tolist(), narrow.clipped_high_BT[0, :2].tolist()) == ([False, True],
                                                                                               [True, False])


def test_sapo_is_minus_two_advantages_over_tau_on_policy_with_gradient_minus_advantage():
    batch = cases.padded(two_tokens([0, 0], [1, -1]), [1])
    np.testing.assert_allclose(token_loss("sapo", batch).loss_BT[0, :2], [-2.0, 2 / 1.05], rtol=1e-6)
    gradient = jax.grad(lambda p: token_loss("sapo", dataclasses.replace(batch, logprobs_BT=p)).loss_BT[0, :2]
                        .sum())
    np.testing.assert_allclose(gradient(batch.logprobs_BT)[0, :2], [-1, 1], rtol=1e-6)


def test_dppo_drops_tokens_whose_probability_moved_too_far_the_wrong_way():
    # from e^-1 = 0.37: up to 0.74 (too far for A > 0), down to 0.018 (too far for A < 0)
    up = token_loss("dppo_tv", cases.padded(two_tokens([LN2, LN2], [1, -1]), [1]))
    np.testing.assert_allclose(up.loss_BT[0, :2], [0, 2 * (-1 + LN2)], rtol=1e-5)
    down = token_loss("dppo_tv", cases.padded(two_tokens([-3, -3], [1, -1]), [1]))
    np.testing.assert_allclose(down.loss_BT[0, :2], [4 * np.exp(-3.0), 0], rtol=1e-5)
    assert down.clipped_low_BT[0, :2].tolist() == [False, True]


def test_dppo_without_sampler_log_probs_is_refused():
    batch = dataclasses.replace(cases.padded(two_tokens([0, 0], [1, 1]), [1]), sampler_logprobs_BT=None)
    with pytest.raises(AlgorithmError, match="dppo_tv"):
        token_loss("dppo_tv", batch)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"gspo"}))
def test_on_policy_every_loss_has_the_gradient_of_reinforce(name):
    batch = cases.padded(two_tokens([0, 0], [0.5, -2.0]), [1])
    gradient = jax.grad(lambda p: token_loss(name, dataclasses.replace(batch, logprobs_BT=p)).loss_BT[0, :2].
                        sum())
    np.testing.assert_allclose(gradient(batch.logprobs_BT)[0, :2], [-0.5, 2.0], rtol=1e-5)


def test_an_unknown_loss_or_setting_is_refused_with_the_nearest_name():
    with pytest.raises(AlgorithmError, match="Did you mean 'gspo'"):
        lookup(LOSSES, "gspoo", "loss")
    with pytest.raises(AlgorithmError, match="no setting 'clip_hi'.*Did you mean 'clip_high'"):
        configure(LOSSES["gspo"].settings, {"clip_hi": 0.1}, "gspo")
    with pytest.raises(AlgorithmError, match="must be like"):
        configure(LOSSES["gspo"].settings, {"clip_high": "0.1"}, "gspo")
    assert configure(LOSSES["gspo"].settings, {"clip_high": 0.1}, "gspo") == Clip(3e-4, 0.1)
    assert configure(LOSSES["gspo"].settings, {"clip_high": 1}, "gspo") == Clip(3e-4, 1)


@pytest.mark.parametrize("value, reason", [
    (True, "must be like"), (None, "must be like"), ([0.1], "must be like"), (10**400, "must be like"),
    (float("inf"), "must be finite"), (float("nan"), "must be finite")])
def test_a_setting_of_a_row_is_a_finite_number_of_its_kind(value, reason):
    with pytest.raises(AlgorithmError, match=f"'clip_high' {reason}"):
        configure(LOSSES["gspo"].settings, {"clip_high": value}, "gspo")
    assert configure(Whole(), {"count": 2}, "whole") == Whole(2)
    with pytest.raises(AlgorithmError, match="'count' must be like 1, got 1.5"):
        configure(Whole(), {"count": 1.5}, "whole")


@dataclasses.dataclass(frozen=True)
class Whole:
    count: int = 1


def test_a_row_that_takes_or_fills_what_there_is_not_is_refused_when_the_table_is_made():
    row = LOSSES["clipped_surrogate"]
    check_takes({"own": row}, ClipBounds)
    with pytest.raises(AlgorithmError, match="'own' takes ClipBounds.lower, and there is no such field"):
        check_takes({"own": row._replace(takes={"lower": "clip_low"})}, ClipBounds)
    with pytest.raises(AlgorithmError, match="'own' takes RatioBounds.clip_low"):
        check_takes({"own": LOSSES["cispo"]._replace(takes={"low": "clip_low"})}, ClipBounds)
