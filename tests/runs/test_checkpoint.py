"""Checkpoints: exact, whole or absent, and refused where they do not belong."""
import os
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxrl_moe.config import OptimizerSection
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.runs import checkpoint
from jaxrl_moe.runs.checkpoint import CheckpointError, Checkpoints, Progress

STATE = {"trainable": {"a": jnp.linspace(0.0, 1.0, 12).reshape(3, 4), "b": jnp.arange(5.0)},
         "opt_state": (jnp.int32(7), None, {"mu": jnp.full((3, 4), 1 / 3)})}


def at(folder, keep=2, **identity):
    return Checkpoints(folder, keep=keep, identity={"model hidden_size": 32} | identity, config={"seed": 0})


def test_arrays_and_progress_come_back_to_the_bit(tmp_path):
    progress = Progress(step=3, sequence=24, data={"drawn": 24}, best_score=0.1 + 0.2)
    at(tmp_path).save(STATE, progress, 0.25)
    state, restored = at(tmp_path).restore(jax.tree.map(jnp.zeros_like, STATE))
    assert restored == progress
    assert jax.tree.structure(state) == jax.tree.structure(STATE)
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(STATE)):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_the_newest_and_the_best_are_kept(tmp_path):
    checkpoints = at(tmp_path)
    for step, score in enumerate([None, 0.9, None, 0.3, None, 0.8, None], 1):
        checkpoints.save(STATE, Progress(step=step), score)
    assert checkpoints.steps() == [2, 6, 7]
    assert at(tmp_path).steps() == [2, 6, 7]


def test_a_checkpoint_of_another_model_is_refused_with_the_differences(tmp_path):
    at(tmp_path).save(STATE, Progress(step=1))
    with pytest.raises(CheckpointError, match="another model.*model hidden_size: 32 there, 64 here"):
        at(tmp_path, **{"model hidden_size": 64}).restore(STATE)


def test_the_identity_sees_shapes_adapters_and_base_weights():
    frozen = {"w": jnp.ones((4, 8, 8))}
    same = checkpoint.identity({"vocab_size": 8}, {"rank": 4}, STATE, frozen)
    assert checkpoint.identity({"vocab_size": 8}, {"rank": 4}, STATE, jax.tree.map(jnp.copy, frozen)) == same
    others = [checkpoint.identity({"vocab_size": 9}, {"rank": 4}, STATE, frozen),
              checkpoint.identity({"vocab_size": 8}, {"rank": 8}, STATE, frozen),
              checkpoint.identity({"vocab_size": 8}, {"rank": 4}, STATE["trainable"], frozen),
              checkpoint.identity({"vocab_size": 8}, {"rank": 4}, STATE, {"w": frozen["w"] * 1.01})]
    assert same not in others


def test_what_a_killed_save_leaves_is_no_checkpoint_and_is_cleared_away(tmp_path):
    at(tmp_path).save(STATE, Progress(step=1))
    partial = tmp_path / "2.orbax-checkpoint-tmp"
    partial.mkdir()
    (partial / "half").write_bytes(b"x" * 100)
    assert at(tmp_path).steps() == [1]
    assert not partial.exists()


@pytest.mark.parametrize("item", ["state", "meta"])
def test_a_damaged_checkpoint_is_named_with_the_way_back(tmp_path, item):
    checkpoints = at(tmp_path)
    checkpoints.save(STATE, Progress(step=1))
    checkpoints.save(STATE, Progress(step=2))
    for path in (tmp_path / "2" / item).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:3])
    with pytest.raises(CheckpointError, match=f"{tmp_path}/2 cannot be read.*Delete that folder.*go on from "
                                              "step 1"):
        at(tmp_path).restore(STATE)
    shutil.rmtree(tmp_path / "2")
    assert at(tmp_path).restore(STATE)[1].step == 1


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB, or a skip where it cannot be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder],
                                           capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs privileges that are not there")
    yield folder
    subprocess.run(["umount", folder], check=True)


def noise():
    return {"w": jnp.asarray(np.random.default_rng(0).normal(size=(350, 1000)), jnp.float32)}


def test_a_full_disk_is_named_and_leaves_earlier_checkpoints_whole(small_disk):
    checkpoints = at(small_disk / "checkpoints", keep=9)
    state = noise()
    checkpoints.save(state, Progress(step=1))
    checkpoints.save(state, Progress(step=2))
    with pytest.raises(
            CheckpointError,
            match=r"step 3 could not be saved.*the disk is full.*\[1, 2\].*goes on from the newest"):
        checkpoints.save(state, Progress(step=3))
    assert sorted(os.listdir(small_disk / "checkpoints")) == ["1", "2"]
    restored, progress = at(small_disk / "checkpoints").restore(state)
    assert progress.step == 2
    np.testing.assert_array_equal(restored["w"], state["w"])


def test_a_failing_write_is_named_without_privileges_too(tmp_path, monkeypatch):
    checkpoints = at(tmp_path)
    checkpoints.save(STATE, Progress(step=1))

    def fail(*args, **kwargs):
        (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", fail)
    with pytest.raises(CheckpointError, match="the disk is full"):
        checkpoints.save(STATE, Progress(step=2))
    assert os.listdir(tmp_path) == ["1"]


def test_progress_of_a_checkpoint_from_before_the_adaptive_kl_coefficient_still_loads():
    assert Progress(**{"step": 3, "sequence": 24, "data": {"drawn": 24}, "best_score": 0.5}).kl_coef is None


def learner(tensor, offload=(), shift=0.0):
    """All weights of a dense model of an odd vocabulary, its moments other than zero."""
    shape = ModelConfig("qwen3", 65, 16, 1, 2, 2, 8, 24, (False,), (0,))
    settings = LearnerSettings(OptimizerSection(), 10, offload=offload)
    placement = make_placement({"tensor": tensor}) if tensor else None
    one = build_learner(Transformer(shape, rngs=nnx.Rngs(0)), settings, placement)
    one.take_over(
        jax.tree.map(lambda leaf: jax.device_put(leaf + jnp.asarray(shift, leaf.dtype), leaf.sharding),
                     one.stored()))
    return one


@pytest.mark.parametrize("before, after, offload", [(2, None, ()), (None, 2, ()), (2, 1, ("optimizer",))],
                         ids=str)
def test_a_vocabulary_that_does_not_divide_goes_on_over_another_number_of_devices(
        tmp_path, before, after, offload):
    old = learner(before, offload, shift=1.0)
    new = learner(after, offload)
    names = [checkpoint.identity({}, {}, one.stored(), one.parts.frozen) for one in (old, new)]
    assert names[0] == names[1] and "float32[65, 16]" in names[0].values()
    Checkpoints(tmp_path, keep=1, identity=names[0], config={}).save(old.stored(), Progress(step=1))
    state, _ = Checkpoints(tmp_path, keep=1, identity=names[1], config={}).restore(new.stored())
    layouts = [(leaf.shape, leaf.sharding) for leaf in jax.tree.leaves(new.state)]
    new.take_over(state)
    assert [(leaf.shape, leaf.sharding) for leaf in jax.tree.leaves(new.state)] == layouts
    for ours, theirs in zip(jax.tree.leaves(new.stored()), jax.tree.leaves(old.stored()), strict=True):
        np.testing.assert_array_equal(ours, theirs)
