"""Metrics say how they merge: over micro-batches, over updates, and through compiled programs."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_moe.rl.metrics import Merge, Metrics, merged

TWO = {  # of two updates with 3 and 1 trained tokens, 1 and 9 values
    Merge.TOKEN_MEAN: (2.0, 6.0, 3.0), Merge.VALUE_MEAN: (2.0, 6.0, 5.6), Merge.UPDATE_MEAN: (2.0, 6.0, 4.0),
    Merge.MAXIMUM: (6.0, 2.0, 6.0), Merge.LAST: (6.0, 2.0, 2.0), Merge.SUM: (2.0, 6.0, 8.0)}


@pytest.mark.parametrize("name", ["x", "policy/ratio_max", "mismatch/kl", "critic/lr"])
@pytest.mark.parametrize("merge", TWO)
def test_a_metric_merges_as_it_says_whatever_it_is_called(merge, name):
    first, second, expected = TWO[merge]
    row = merged([Metrics(merge, {name: first}), Metrics(merge, {name: second})], [3.0, 1.0], [1.0, 9.0])
    assert row == {name: pytest.approx(expected, rel=1e-12)}


def test_every_way_of_merging_but_a_flag_reaches_the_row():
    assert set(TWO) | {Merge.UNLOGGED} == set(Merge)
    flagged = Metrics(Merge.UNLOGGED, {"finite": True}) | Metrics(Merge.SUM, {"load": np.arange(2)})
    row = merged([flagged, flagged], [1.0, 1.0], [1.0, 1.0])
    assert row.keys() == {"load"} and row["load"].tolist() == [0.0, 2.0]


def test_a_metric_that_does_not_say_how_it_merges_is_refused():
    known = Metrics(Merge.LAST, {"a": 1.0})
    with pytest.raises(TypeError, match="b: a metric says how it merges"):
        known | {"b": 1.0}
    with pytest.raises(TypeError, match="returned a dict in place of Metrics"):
        merged([{"a": 1.0}], [1.0], [1.0])


def test_one_name_cannot_merge_in_two_ways():
    with pytest.raises(ValueError, match="'a' merges as LAST and as SUM"):
        Metrics(Merge.LAST, {"a": 1.0}) | Metrics(Merge.SUM, {"a": 1.0})
    with pytest.raises(ValueError, match="Updates of one step differ in .*'a'"):
        merged([Metrics(Merge.LAST, {"a": 1.0}), Metrics(Merge.SUM, {"a": 1.0})], [1.0, 1.0], [1.0, 1.0])


def test_a_compiled_program_returns_what_it_was_given_with_its_merging():
    means = Metrics(Merge.TOKEN_MEAN, {"c": jnp.zeros(()), "a": jnp.ones(2)})
    metrics = Metrics(Merge.MAXIMUM, {"b": jnp.ones(())}) | means
    out = jax.jit(lambda metrics: jax.tree.map(lambda x: x + 1, metrics))(metrics)
    kinds = {name: out.merge(name) for name in out}
    assert kinds == {"a": Merge.TOKEN_MEAN, "b": Merge.MAXIMUM, "c": Merge.TOKEN_MEAN}
    assert float(out["b"]) == 2 and out["a"].tolist() == [2, 2]
    assert set(out.only(Merge.MAXIMUM)) == {"b"} and set(out.without(Merge.MAXIMUM)) == {"a", "c"}
