import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl_moe.rl.aggregation import AGGREGATIONS
from jaxrl_moe.rl.corrections import CORRECTIONS
from jaxrl_moe.rl.losses import LOSSES, Clip
from jaxrl_moe.rl.objective import make_objective, policy_objective
from jaxrl_moe.rl.table import AlgorithmError
from tests.rl import cases, oracle

TERMS = dict(kl_coef=0.3, kl_estimator="k3", entropy_coef=0.1)


@pytest.mark.parametrize("mode", sorted(AGGREGATIONS))
def test_the_objective_equals_the_loop(mode):
    seqs = cases.sequences(seed=2)
    objective = make_objective("clipped_surrogate", corrections={"tis": {}, "veto": {"floor": 0.4}}, **TERMS)
    loss, metrics, _ = cases.total([cases.padded(seqs, cases.weights(seqs, mode, 9))], objective)
    held = [s["p"] for s in seqs]
    clip = {"clip_low": 0.2, "clip_high": 0.2}
    corrections = [("tis", {"cap": 2.0}), ("veto", {"floor": 0.4})]
    expected = oracle.objective(seqs, held, "clipped_surrogate", clip, mode, 9, corrections, 0.3, "k3", 0.1)
    assert loss == pytest.approx(expected, rel=1e-5)
    kl_only = expected - oracle.objective(seqs, held, "clipped_surrogate", clip, mode, 9, corrections, 0.0,
                                          "k3", 0.1)
    assert metrics["policy/kl_loss"] == pytest.approx(kl_only / 0.3, rel=1e-4)


def split(order, sizes):
    """Cuts `order` into consecutive parts of the given sizes, repeated."""
    parts = []
    start = 0
    while start < len(order):
        size = sizes[len(parts) % len(sizes)]
        parts.append(order[start:start + size])
        start += size
    return parts


@pytest.mark.parametrize("loss", sorted(LOSSES))
@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(8)), rows=st.lists(st.integers(1, 3), min_size=1, max_size=3),
       batches=st.lists(st.integers(1, 3), min_size=1,
                        max_size=3), mode=st.sampled_from(sorted(AGGREGATIONS)))
def test_order_padding_packing_and_micro_batches_change_nothing(loss, order, rows, batches, mode):
    seqs = cases.sequences(seed=4, count=8, longest=5)
    corrections = {} if LOSSES[loss].own_mismatch else {
        "tis_sequence": {},
        "mis_geometric": {
            "low": 0.7,
            "high": 1.4
        }
    }
    objective = make_objective(loss, corrections=corrections, **TERMS)
    weights = cases.weights(seqs, mode, 9)
    plain, plain_metrics, (plain_gradient,) = cases.total([cases.padded(seqs, weights)], objective)
    parts = split(split(list(order), rows), batches)
    padded_parts = [part + [[]] * (3 - len(part)) for part in parts]
    micro = [cases.inputs(seqs, weights, part, 17) for part in padded_parts]
    loss_value, metrics, gradients = cases.total(micro, objective)
    assert loss_value == pytest.approx(plain, rel=1e-5, abs=1e-6)
    assert metrics == pytest.approx(plain_metrics, rel=1e-4, abs=1e-5)
    for part, gradient in zip(padded_parts, gradients):
        for row, members in enumerate(part):
            start = 0
            for i in members:
                length = len(seqs[i]["m"])
                expected = plain_gradient[i, :length]
                np.testing.assert_allclose(gradient[row, start:start + length], expected, rtol=1e-5,
                                           atol=1e-6)
                start += length
            assert not gradient[row, start:].any()


def test_metrics_are_means_over_tokens_and_maxima():
    seqs = cases.sequences(seed=7)
    _, metrics, _ = cases.total([cases.padded(seqs, cases.weights(seqs))], make_objective(kl_coef=0.1))
    pairs = [(s, t) for s in seqs for t in oracle.tokens(s)]
    logs = np.array([s["p"][t] - s["o"][t] for s, t in pairs])
    advantages = np.array([s["A"][t] for s, t in pairs])
    expected = {
        "policy/ratio_mean": np.exp(logs).mean(),
        "policy/ratio_max": np.exp(logs).max(),
        "policy/approx_kl": (np.exp(logs) - 1 - logs).mean(),
        "policy/entropy": np.mean([s["H"][t] for s, t in pairs]),
        "policy/clip_frac_low": ((np.exp(logs) < 0.8) & (advantages < 0)).mean(),
        "policy/clip_frac_high": ((np.exp(logs) > 1.2) & (advantages > 0)).mean()
    } | oracle.mismatch(seqs)
    assert min(expected["policy/clip_frac_low"], expected["policy/clip_frac_high"]) > 0
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, rel=1e-4), name


def test_without_old_log_probs_the_update_is_on_policy():
    seqs = cases.sequences(seed=8)
    batch = cases.padded(seqs, cases.weights(seqs))
    objective = make_objective()
    none = cases.total([dataclasses.replace(batch, old_logprobs_BT=None)], objective)
    same = cases.total([dataclasses.replace(batch, old_logprobs_BT=batch.logprobs_BT)], objective)
    assert none[0] == same[0] and none[1] == same[1]
    np.testing.assert_array_equal(none[2][0], same[2][0])
    assert none[1]["policy/ratio_max"] == 1 and np.abs(none[2][0]).max() > 0


def test_bypass_puts_the_sampler_in_the_place_of_the_old_policy_and_still_measures_the_mismatch():
    seqs = cases.sequences(seed=9)
    batch = cases.padded(seqs, cases.weights(seqs))
    got = cases.total([batch], make_objective(bypass=True))
    swapped = cases.total([dataclasses.replace(batch, old_logprobs_BT=batch.sampler_logprobs_BT)],
                          make_objective())
    assert got[0] == swapped[0]
    assert got[1]["mismatch/kl"] == pytest.approx(oracle.mismatch(seqs)["mismatch/kl"], rel=1e-4)


def test_an_adaptive_coefficient_takes_the_place_of_the_fixed_one():
    seqs = cases.sequences()
    batch = cases.padded(seqs, cases.weights(seqs))
    adaptive = jax.jit(lambda b, c: policy_objective(dataclasses.replace(b, kl_coef=c),
                                                     make_objective(kl_coef=0.1)).loss)
    assert float(adaptive(batch, 0.7)) == pytest.approx(
        cases.total([batch], make_objective(kl_coef=0.7))[0], rel=1e-5)


def test_a_micro_batch_without_trained_tokens_adds_exactly_nothing():
    seqs = cases.sequences()
    masked = [seq | {"m": [0] * len(seq["m"])} for seq in seqs]
    batch = cases.padded(seqs, cases.weights(seqs))
    empty = cases.padded(masked, np.ones(len(seqs)), num_tokens=batch.num_tokens)
    objective = make_objective("gspo", corrections={"mis_geometric": {}}, **TERMS)
    loss, metrics, _ = cases.total([batch], objective)
    both, both_metrics, gradients = cases.total([batch, empty], objective)
    assert both == loss and both_metrics == metrics and not gradients[1].any()


def test_sequences_of_one_token_train():
    seqs = cases.sequences(count=3, longest=1)
    for name in LOSSES:
        loss, _, (gradient,) = cases.total([cases.padded(seqs, cases.weights(seqs))], make_objective(name))
        assert np.isfinite(loss) and np.isfinite(gradient).all()


@pytest.mark.parametrize("arguments, reason", [
    (dict(loss="gspo", corrections={"tis": {}}), "one ratio a sequence"),
    (dict(loss="gspo_token", corrections={"icepop": {}}), "one ratio a sequence"),
    (dict(bypass=True, corrections={"tis": {}}), "twice"),
    (dict(loss="dppo_tv", corrections={"mis_sequence": {}}), "twice"),
    (dict(loss="dppo_tv", bypass=True), "bypass would change nothing"),
    (dict(loss="ppo"), "no loss named 'ppo'"),
    (dict(kl_estimator="k5"), "no KL estimator named"),
    (dict(corrections={"tiss": {}}), "Did you mean 'tis'"),
    (dict(corrections={"tis": {"cup": 1.0}}), "Did you mean 'cap'"),
    (dict(loss_settings={"clip_top": 1.0}), "no setting 'clip_top'"),
])
def test_contradictions_and_unknown_names_are_refused_with_the_reason(arguments, reason):
    with pytest.raises(AlgorithmError, match=reason):
        make_objective(**arguments)


@pytest.mark.parametrize("missing, arguments, reason", [
    ("ref_logprobs_BT", dict(kl_coef=0.1), "needs a reference policy"),
    ("entropy_BT", dict(entropy_coef=0.1), "needs the policy's entropy"),
    ("sampler_logprobs_BT", dict(corrections={"tis": {}}), "'tis' needs the sampler's log-probs"),
    ("sampler_logprobs_BT", dict(bypass=True), "'bypass' needs the sampler's log-probs"),
])
def test_terms_without_their_inputs_are_refused(missing, arguments, reason):
    seqs = cases.sequences()
    batch = dataclasses.replace(cases.padded(seqs, cases.weights(seqs)), **{missing: None})
    with pytest.raises(AlgorithmError, match=reason):
        policy_objective(batch, make_objective(**arguments))


LOSS_DEFAULTS = {  # as the papers have them; a new loss needs no row here
    "clipped_surrogate": {
        "clip_low": 0.2,
        "clip_high": 0.2
    },
    "dual_clip": {
        "clip_low": 0.2,
        "clip_high": 0.2,
        "dual_clip": 3
    },
    "gspo": {
        "clip_low": 3e-4,
        "clip_high": 4e-4
    },
    "gspo_token": {
        "clip_low": 3e-4,
        "clip_high": 4e-4
    },
    "cispo": {
        "ratio_low": 0,
        "ratio_high": 5
    },
    "sapo": {
        "tau_positive": 1,
        "tau_negative": 1.05
    },
    "dppo_tv": {
        "divergence": 0.2,
        "ratio_cap": 20
    },
    "reinforce": {}
}
CORRECTION_DEFAULTS = {
    "tis": {
        "cap": 2
    },
    "tis_sequence": {
        "cap": 5
    },
    "icepop": {
        "low": 0.5,
        "high": 5
    },
    "mis_token": {
        "low": 0.5,
        "high": 2
    },
    "mis_sequence": {
        "low": 0.5,
        "high": 2
    },
    "mis_geometric": {
        "low": 0.99,
        "high": 1.01
    },
    "veto": {
        "floor": 1e-4
    },
    "opsm": {
        "drift": 0.5
    }
}


def test_every_row_of_the_tables_makes_an_objective_with_the_defaults_of_its_paper():
    assert LOSS_DEFAULTS.keys() <= LOSSES.keys() and CORRECTION_DEFAULTS.keys() == CORRECTIONS.keys()
    for name, row in LOSSES.items():
        made = make_objective(name)
        assert made.loss == name and made.loss_settings == row.settings
        assert name not in LOSS_DEFAULTS or dataclasses.asdict(made.loss_settings) == LOSS_DEFAULTS[name]
    for name, defaults in CORRECTION_DEFAULTS.items():
        ((made, settings),) = make_objective(corrections={name: {}}).corrections
        assert made == name and dataclasses.asdict(settings) == defaults


def test_a_setting_that_is_given_leaves_the_others_at_the_rows_own():
    assert make_objective("gspo", {"clip_low": 0.1}).loss_settings == Clip(0.1, 4e-4)
