"""From the algorithm section to the loss: what a setting says is what the loop over sequences computes."""
import dataclasses

import numpy as np
import pytest

from jaxrl_moe.config import AlgorithmSection
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.rl.losses import LOSSES
from tests.rl import cases, oracle

WITHOUT_KL = AlgorithmSection(kl_coef=0.0)


def value(section, seqs, **missing):
    """Loss and metrics of one micro-batch; `missing` fields are taken out of the inputs."""
    batch = dataclasses.replace(cases.padded(seqs, cases.weights(seqs, section.aggregation, 9)), **missing)
    outputs = make_policy_objective(section)(batch)
    return float(outputs.loss), outputs.metrics


def expected(section, seqs, loss, settings, corrections=(), **terms):
    return oracle.objective(seqs, [seq["p"] for seq in seqs], loss, settings, section.aggregation, 9,
                            corrections, **terms)


CLIP = {"clip_low": 0.2, "clip_high": 0.2}
CORRECTED = {
    "tis": ("tis", {
        "cap": 2.0
    }),
    "tis(cap=1.1)": ("tis", {
        "cap": 1.1
    }),
    "tis_sequence": ("tis_sequence", {
        "cap": 5.0
    }),
    "icepop": ("icepop", {
        "low": 0.5,
        "high": 5.0
    }),
    "icepop(low=0.8,high=1.3)": ("icepop", {
        "low": 0.8,
        "high": 1.3
    }),
    "mis_token(high=1.2)": ("mis_token", {
        "low": 0.5,
        "high": 1.2
    }),
    "mis_sequence": ("mis_sequence", {
        "low": 0.5,
        "high": 2.0
    }),
    "mis_geometric(low=0.8,high=1.2)": ("mis_geometric", {
        "low": 0.8,
        "high": 1.2
    }),
    "veto(floor=0.6)": ("veto", {
        "floor": 0.6
    }),
    "opsm(drift=0.05)": ("opsm", {
        "drift": 0.05
    })
}


@pytest.mark.parametrize("spec", CORRECTED)
def test_a_correction_changes_the_loss_as_the_loop_says(spec):
    seqs = cases.sequences(seed=3)
    section = dataclasses.replace(WITHOUT_KL, corrections=(spec,))
    loss, metrics = value(section, seqs)
    name, settings = CORRECTED[spec]
    assert loss == pytest.approx(expected(section, seqs, "clipped_surrogate", CLIP, [CORRECTED[spec]]),
                                 rel=1e-5)
    factors = [
        f for seq in seqs for t, f in enumerate(oracle.correction(name, seq, seq["p"], settings))
        if seq["m"][t]
    ]
    assert float(metrics["correction/weight_mean"]) == pytest.approx(np.mean(factors), rel=1e-5)
    assert float(metrics["correction/dropped_frac"]) == pytest.approx(np.mean(np.array(factors) == 0),
                                                                      abs=1e-6)


def test_several_corrections_multiply():
    seqs = cases.sequences(seed=5)
    section = dataclasses.replace(
        WITHOUT_KL, corrections=("icepop(low=0.7,high=2)", "tis_sequence(cap=1.5)", "veto(floor=0.3)"))
    both = [("icepop", {"low": 0.7, "high": 2}), ("tis_sequence", {"cap": 1.5}), ("veto", {"floor": 0.3})]
    assert value(section, seqs)[0] == pytest.approx(expected(section, seqs, "clipped_surrogate", CLIP, both),
                                                    rel=1e-5)


@pytest.mark.parametrize("loss, settings", [("clipped_surrogate", CLIP),
                                            ("dual_clip(dual_clip=1.5)", CLIP | {
                                                "dual_clip": 1.5
                                            }), ("gspo", {
                                                "clip_low": 3e-4,
                                                "clip_high": 4e-4
                                            }), ("gspo_token", {
                                                "clip_low": 3e-4,
                                                "clip_high": 4e-4
                                            }),
                                            ("cispo(ratio_low=0.9,ratio_high=1.2)", {
                                                "ratio_low": 0.9,
                                                "ratio_high": 1.2
                                            }),
                                            ("sapo(tau_positive=2)", {
                                                "tau_positive": 2,
                                                "tau_negative": 1.05
                                            }), ("reinforce", {}),
                                            ("dppo_tv(divergence=0.02)", {
                                                "divergence": 0.02,
                                                "ratio_cap": 20
                                            })])
def test_a_loss_and_its_settings_are_what_the_section_names(loss, settings):
    seqs = cases.sequences(seed=7)
    section = dataclasses.replace(WITHOUT_KL, loss=loss, aggregation="token-mean")
    assert value(section, seqs)[0] == pytest.approx(expected(section, seqs,
                                                             loss.split("(")[0], settings), rel=1e-5)


@pytest.mark.parametrize("recomputed", [True, False], ids=["with_old", "without_old"])
def test_bypass_takes_the_samplers_log_probs_for_the_old_ones(recomputed):
    seqs = cases.sequences(seed=9)
    missing = {} if recomputed else {"old_logprobs_BT": None}
    loss, metrics = value(dataclasses.replace(WITHOUT_KL, bypass=True), seqs, **missing)
    swapped = [seq | {"o": seq["q"]} for seq in seqs]
    assert loss == pytest.approx(expected(WITHOUT_KL, swapped, "clipped_surrogate", CLIP), rel=1e-5)
    assert "mismatch/kl" in metrics


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_mismatch_is_measured_whatever_the_loss_and_before_anything_was_recomputed(loss):
    seqs = cases.sequences(seed=1)
    section = dataclasses.replace(WITHOUT_KL, loss=loss)
    # the first update's log-probs are the old ones
    own = oracle.mismatch([seq | {"o": seq["p"]} for seq in seqs])
    for missing, wanted in (({}, oracle.mismatch(seqs)), ({"old_logprobs_BT": None}, own)):
        metrics = value(section, seqs, **missing)[1]
        for name in ("mismatch/kl", "mismatch/k1", "mismatch/prob_diff_mean", "mismatch/kl_max",
                     "mismatch/prob_diff_max"):
            assert float(metrics[name]) == pytest.approx(wanted[name], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "abs"])
def test_the_kl_that_a_target_follows_is_the_token_mean_of_old_against_reference(estimator):
    seqs = cases.sequences(seed=11)
    section = AlgorithmSection(kl_coef=0.2, kl_estimator=estimator)
    loss, metrics = value(section, seqs)
    pairs = [(seq["o"][t], seq["f"][t]) for seq in seqs for t in oracle.tokens(seq)]
    assert float(metrics["policy/kl"]) == pytest.approx(
        np.mean([oracle.kl(estimator, o, f, o) for o, f in pairs]), rel=1e-4, abs=1e-6)
    other = value(section, seqs, kl_coef=np.float32(0.5))[0]
    plain = expected(section, seqs, "clipped_surrogate", CLIP)
    assert (other - plain) / (loss - plain) == pytest.approx(0.5 / 0.2, rel=1e-4)
