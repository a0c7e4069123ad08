"""Checkpoints of training whose metadata lack what a bridge reads: refused by name."""
import pathlib

import pytest

from bridges import training_runs
from jaxrl_moe.runs.checkpoints.meta import Meta, Progress
from jaxrl_moe.types import UserError

WHOLE = {"critic": "token", "model hidden_size": 8} | {
    f"array critic/{name}/value": "float32[8]" for name in ("dense", "dense_bias", "out", "out_bias")}


@pytest.mark.parametrize("changes, message", [
    ({"model hidden_size": None}, "identity has no model hidden_size"),
    ({"model hidden_size": "8"}, 'model hidden_size is "8"'), ({"model hidden_size": 2**40}, "hidden_size"),
    ({"critic": "another"}, 'critic is "another"'), ({"critic": 5}, "critic is 5"),
    ({"array critic/other/value": "float32[8]"}, "names the arrays .*other.* of a critic")])
def test_metadata_of_a_critic_that_are_damaged_are_refused_by_key(monkeypatch, changes, message):
    identity = {key: value for key, value in (WHOLE | changes).items() if value is not None}
    monkeypatch.setattr(training_runs, "_read", lambda step: Meta(Progress(), identity, {}))
    with pytest.raises(UserError, match=message):
        training_runs.load_run_critic(pathlib.Path("run/checkpoints/3"))


def test_adapters_under_settings_without_any_are_refused(monkeypatch):
    identity = {"array trainable/stacks/0/attention/q_proj/lora_a/value": "float32[8]"}
    meta = Meta(Progress(), identity, {"lora": {"rank": 0}})
    monkeypatch.setattr(training_runs, "_read", lambda step: meta)
    with pytest.raises(UserError, match="lora.rank = 0"):
        training_runs.load_run(pathlib.Path("run/checkpoints/3"))
