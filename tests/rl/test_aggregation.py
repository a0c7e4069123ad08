import numpy as np
import pytest

from jaxrl_moe.rl.aggregation import AGGREGATIONS, aggregation_weights
from jaxrl_moe.rl.table import AlgorithmError
from tests.rl import cases, oracle


@pytest.mark.parametrize("mode", sorted(AGGREGATIONS))
def test_weighted_sums_equal_the_definition(mode):
    seqs = cases.sequences(count=7)
    seqs[2]["m"] = [0] * len(seqs[2]["m"])
    values = [seq["H"] for seq in seqs]
    weights = cases.weights(seqs, mode, norm=16)
    got = sum(w * sum(h * m for h, m in zip(seq["H"], seq["m"])) for w, seq in zip(weights, seqs))
    assert got == pytest.approx(oracle.aggregate(values, seqs, mode, 16), rel=1e-12)


def test_weights_are_the_expected_arrays():
    lengths = [1, 3, 0, 4]
    groups = [7, 7, 9, 8]
    expected = {
        "token-mean": [1 / 8, 1 / 8, 0, 1 / 8],
        "seq-mean-token-mean": [1 / 3, 1 / 9, 0, 1 / 12],
        "seq-mean-token-sum": [1 / 3, 1 / 3, 0, 1 / 3],
        "seq-mean-token-sum-norm": [1 / 30, 1 / 30, 0, 1 / 30],
        "prompt-mean": [1 / 8, 1 / 8, 0, 1 / 8],
    }
    assert set(expected) == set(AGGREGATIONS)
    for mode, weights in expected.items():
        np.testing.assert_allclose(aggregation_weights(lengths, groups, mode, 10), weights, rtol=1e-12,
                                   err_msg=mode)


def test_an_all_empty_batch_is_refused():
    with pytest.raises(AlgorithmError, match="nothing to train on: none of its 2 sequences"):
        aggregation_weights([0, 0], [0, 1], "token-mean")


def test_a_missing_constant_length_is_refused():
    with pytest.raises(AlgorithmError, match="constant length"):
        aggregation_weights([1], [0], "seq-mean-token-sum-norm")


def test_an_unknown_mode_is_refused_with_the_nearest_name():
    with pytest.raises(AlgorithmError, match="Did you mean 'token-mean'"):
        aggregation_weights([1], [0], "token_mean")
