"""How tests compare: the largest difference relative to the largest value."""
import jax
import numpy as np


def relative(got, expected) -> float:
    got = np.asarray(got, np.float64)
    expected = np.asarray(expected, np.float64)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    largest = np.abs(expected).max() if expected.size else 0.0
    error = np.abs(got - expected).max() if expected.size else 0.0
    return float(error / largest) if largest else float(error)


def assert_close(got, expected, tolerance=1e-5):
    """Trees of arrays, leaf by leaf."""
    got_leaves = jax.tree.leaves(got)
    expected_leaves = jax.tree.leaves(expected)
    assert len(got_leaves) == len(expected_leaves)
    for mine, theirs in zip(got_leaves, expected_leaves):
        assert relative(mine, theirs) <= tolerance, relative(mine, theirs)
