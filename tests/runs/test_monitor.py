"""What watches a run."""
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_moe.config import LoggingSection
from jaxrl_moe.runs import monitor


def test_compilations_are_counted_once_per_shape():
    compilations = monitor.Compilations()
    twice = jax.jit(lambda x: x * 2 + 1)
    inputs = [jnp.ones(n) for n in (3, 3, 4)]
    compilations.metrics()
    for x in inputs:
        twice(x)
    first = compilations.metrics()
    twice(inputs[0])
    assert (first["perf/compiles"], compilations.metrics()["perf/compiles"]) == (2, 0)
    assert first["perf/compile_s"] > 0
    compilations.close()
    jax.jit(lambda x: x - 3)(inputs[0])
    assert compilations.metrics()["perf/compiles"] == 0


def test_peak_memory_is_at_least_that_of_an_array_just_made():
    array = np.ones(30_000_000)
    assert monitor.peak_bytes() >= array.nbytes


def test_the_profiler_opens_at_its_step_and_closes_after_its_window(tmp_path):
    window = monitor.ProfilerWindow(LoggingSection(profile_start=1, profile_steps=2), tmp_path)
    found = []
    for step in range(4):
        window.before(step)
        jnp.ones(3).sum().block_until_ready()
        found.append(window._open)
    window.close()
    assert found == [False, True, True, False]
    assert list(tmp_path.rglob("*.xplane.pb"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_stops_the_run_and_dumps_the_batch(tmp_path, value):
    batch = SimpleNamespace(tokens_BT=np.arange(6).reshape(2, 3), old_logprobs_BT=None,
                            num_tokens=np.float32(5))
    monitor.refuse_non_finite(1, {"policy/loss": 0.5}, [batch], tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(monitor.NonFiniteError, match="Step 7: policy/grad_norm = .*non_finite_step_7.npz"):
        monitor.refuse_non_finite(7, {
            "policy/loss": 0.5,
            "policy/grad_norm": value
        }, [batch, batch], tmp_path)
    dump = np.load(tmp_path / "non_finite_step_7.npz")
    np.testing.assert_array_equal(dump["micro_batch_1/tokens_BT"], batch.tokens_BT)
    assert "micro_batch_0/num_tokens" in dump and "micro_batch_0/old_logprobs_BT" not in dump
