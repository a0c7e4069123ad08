"""A whole run with a critic: its log, its way back to the same bits, its export, and another run that starts
from it."""
import os
import signal

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import bridges
from jaxrl_moe.config import resolve
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.runs import monitor
from jaxrl_moe.runs.checkpoints import checkpoint
from jaxrl_moe.training import assembly, pipeline
from jaxrl_moe.types import UserError
from tests.helpers import tiny_run
from tests.helpers.runs import arrays, assert_same_run, rows

PPO = dict(algorithm__advantage="gae", algorithm__aggregation="token-mean", algorithm__kl_in="reward",
           algorithm__kl_coef=0.01, algorithm__kl_estimator="k1", algorithm__lam=0.95,
           algorithm__truncated="bootstrap", critic__learning_rate=3e-3, train__steps=3, checkpoint__every=1,
           eval__every=0, eval__at_start=False, eval__greedy=False, logging__tensorboard=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_run.make_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    """run_dir of 3 steps of PPO with GAE."""
    run_dir = tmp_path_factory.mktemp("ppo") / "run"
    assert pipeline.run_all(resolve(tiny_run.settings(files, run_dir, **PPO)), bridges)
    return run_dir


def test_the_log_has_the_critics_numbers(finished):
    for row in rows(finished / "metrics.jsonl"):
        assert row["critic/value_loss"] > 0 and row[
            "critic/grad_norm"] > 0 and 0 <= row["critic/clip_frac"] <= 1
        assert row["critic/explained_variance"] <= 1
    assert rows(finished / "metrics.jsonl")[-1]["critic/lr"] == pytest.approx(3e-3)


def test_a_run_with_a_critic_stopped_by_sigterm_goes_on_to_the_same_bits(files, finished, tmp_path,
                                                                         monkeypatch):
    whole = monitor.ProfilerWindow.before

    def before(window, step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        whole(window, step)

    config = resolve(tiny_run.settings(files, tmp_path / "run", **PPO))
    monkeypatch.setattr(monitor.ProfilerWindow, "before", before)
    assert not pipeline.run_all(config, bridges)
    monkeypatch.setattr(monitor.ProfilerWindow, "before", whole)
    assert pipeline.run_all(config, bridges)
    assert_same_run(tmp_path / "run", finished)
    for part in ("critic/", "critic_opt_state/"):
        assert any(name.startswith(part) for name in arrays(finished))


def test_a_run_does_not_go_on_with_another_critic_or_without(files, finished, tmp_path):
    for advantage in ("grpo", "last_token_critic"):
        changed = PPO | dict(algorithm__advantage=advantage, algorithm__lam=1.0, algorithm__truncated="keep")
        changed |= dict(critic__learning_rate=5e-5) if advantage == "grpo" else {}
        message = f"algorithm.advantage = '{advantage}' cannot go on from .*with algorithm.advantage = 'gae"
        with pytest.raises(UserError, match=message):
            pipeline.run_all(resolve(tiny_run.settings(files, finished, **changed)), bridges)


def test_the_critic_lies_beside_the_adapter_and_another_run_starts_from_it(files, finished, tmp_path):
    saved = {
        name.split("/")[1]: array for name, array in arrays(finished).items() if name.startswith("critic/")
    }
    critic = bridges.load_critic(finished / "adapter")
    assert critic.kind == "token" and saved.keys() == {"dense", "dense_bias", "out", "out_bias"}
    for name, array in saved.items():
        np.testing.assert_array_equal(getattr(critic.head, name)[...], array)
    assert not [name for name in load_file(finished / "model" / "model.safetensors") if "dense" in name]

    config = resolve(tiny_run.settings(files, tmp_path / "run", **PPO,
                                       critic__path=str(finished / "adapter")))
    learner, _ = assembly.build(config, bridges, load_tokenizer(config.model.path), 6)
    np.testing.assert_array_equal(learner.value_head().out[...], saved["out"])
    with pytest.raises(UserError, match="holds no critic: there is no value_head.json"):
        pipeline.run_all(
            resolve(tiny_run.settings(files, tmp_path / "run", **PPO, critic__path=str(files / "model"))),
            bridges)


def test_a_run_without_a_critic_does_not_go_on_with_one(tmp_path):
    state = {"weights": jnp.zeros(2)}

    def open_checkpoints(identity):
        return checkpoint.Checkpoints(tmp_path, keep=1, identity=identity, config={})

    before = open_checkpoints({})
    before.save(state, checkpoint.Progress(step=1))
    after = open_checkpoints({"critic": "token", "array critic/out": "float32[32, 1]"})
    with pytest.raises(checkpoint.CheckpointError,
                       match="belongs to another model or run .critic: absent there, token here"):
        after.restore(state)


@pytest.mark.filterwarnings("ignore:This run trains the routers")
def test_full_fine_tuning_exports_its_critic_alone(files, tmp_path):
    config = resolve(
        tiny_run.settings(
            files, tmp_path / "run", **PPO | dict(lora__rank=0, lora__dropout=0.0, algorithm__kl_coef=0.0,
                                                  algorithm__kl_in="loss", algorithm__kl_estimator="k3")))
    learner, _ = assembly.build(config, bridges, load_tokenizer(config.model.path), 6)
    pipeline.export(config, bridges, learner, tmp_path / "run")
    critic = bridges.load_critic(tmp_path / "run" / "critic")
    np.testing.assert_array_equal(critic.head.dense[...], learner.value_head().dense[...])
    assert not (tmp_path / "run" / "adapter").exists()
