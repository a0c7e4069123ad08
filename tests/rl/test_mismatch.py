import dataclasses

import pytest

from jaxrl_moe.rl.objective import make_objective
from tests.rl import cases, oracle


def metrics_of(seqs, **changes):
    batch = dataclasses.replace(cases.padded(seqs, cases.weights(seqs)), **changes)
    return cases.total([batch], make_objective())[1]


@pytest.mark.parametrize("spread", [1e-3, 0.4, 15.0])
def test_mismatch_metrics_equal_the_loop(spread):
    seqs = cases.sequences(seed=11, spread=spread, count=12)
    metrics = metrics_of(seqs)
    for name, value in oracle.mismatch(seqs).items():
        assert metrics[name] == pytest.approx(value, rel=2e-3 if spread < 0.1 else 1e-4), name


def test_equal_log_probs_mismatch_by_exactly_nothing():
    seqs = [seq | {"q": seq["o"]} for seq in cases.sequences()]
    metrics = metrics_of(seqs)
    zero = ("kl", "kl_max", "k1", "k1_max", "prob_diff_mean", "prob_diff_max")
    assert [metrics["mismatch/" + name] for name in zero] == [0] * 6
    assert metrics["mismatch/ess"] == pytest.approx(1) and metrics["mismatch/pearson"] == pytest.approx(1)


def test_constant_probabilities_correlate_by_convention():
    seq = {key: [-1.0, -1.0] for key in "pofqH"} | {"m": [1, 1], "A": [1.0, 1.0], "group": 0}
    assert metrics_of([seq])["mismatch/pearson"] == 1
    assert metrics_of([seq | {"q": [-1.0, -2.0]}])["mismatch/pearson"] == 0


def test_without_a_sampler_nothing_is_reported():
    metrics = metrics_of(cases.sequences(), sampler_logprobs_BT=None)
    assert not [name for name in metrics if name.startswith("mismatch")]
