"""Checkpoints: exact, whole or absent, and refused where they do not belong."""
import json
import os
import pathlib
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
from jaxrl_moe.runs.checkpoints import checkpoint, hashes, meta
from jaxrl_moe.runs.checkpoints.checkpoint import CheckpointError, Checkpoints, Progress
from jaxrl_moe.runs.checkpoints.identity import identity

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
    same = identity({"vocab_size": 8}, {"rank": 4}, STATE, frozen)
    assert identity({"vocab_size": 8}, {"rank": 4}, STATE, jax.tree.map(jnp.copy, frozen)) == same
    others = [identity({"vocab_size": 9}, {"rank": 4}, STATE, frozen),
              identity({"vocab_size": 8}, {"rank": 8}, STATE, frozen),
              identity({"vocab_size": 8}, {"rank": 4}, STATE["trainable"], frozen),
              identity({"vocab_size": 8}, {"rank": 4}, STATE, {"w": frozen["w"] * 1.01})]
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
    with pytest.raises(CheckpointError, match=f"{tmp_path}/2 cannot be read.*checkpoint.resume_step=1"):
        at(tmp_path).restore(STATE)
    assert at(tmp_path).restore(STATE, 1)[1].step == 1
    shutil.rmtree(tmp_path / "1")
    with pytest.raises(CheckpointError, match="no earlier one: put back an undamaged copy"):
        at(tmp_path).restore(STATE)


def flipped(data):
    return data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1:]


@pytest.mark.parametrize("damage", [flipped, lambda data: data[:-1], lambda data: data + b" ", None],
                         ids=["a bit", "cut", "longer", "gone"])
def test_damage_to_any_file_of_a_checkpoint_is_found_and_the_file_named(tmp_path, damage):
    at(tmp_path).save(STATE, Progress(step=2))
    files = [path for path in sorted((tmp_path / "2").rglob("*")) if path.is_file()]
    assert len(files) > 8 and any(path.stat().st_size > 90 for path in files)
    for path in files:
        whole = path.read_bytes()
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage(whole))
        if path.name == hashes.FILE and damage is not None and damage(whole).split() == whole.split():
            continue  # a space more says the same
        with pytest.raises(CheckpointError, match=f"2 cannot be read: .*{path.name}"):
            at(tmp_path).restore(STATE)
        path.write_bytes(whole)
    assert at(tmp_path).restore(STATE)[1].step == 2


@pytest.mark.parametrize("where, value, message", [
    ("progress.step", "2", "step is .2. .a string"), ("progress.step", True, "step is true"),
    ("progress.step", -1, "step is -1"), ("progress.step", 3, "step is 3, but the folder is that of step 2"),
    ("progress.step", None, "has no step"), ("progress.sequence", 1.5, "sequence is 1.5"),
    ("progress.data", [1], "data is .1.*an object is needed"), ("progress.unfinished", [[1]], "unfinished"),
    ("progress.unfinished", [[0, -1]], "unfinished"), ("progress.kl_coef", "x", "kl_coef is"),
    ("progress.more", 1, "'more' is not known"), ("identity", None, "has no identity"),
    ("config", 7, "config is 7"), ("score", "high", "score is"), ("logs", [], "logs is")], ids=str)
def test_what_a_checkpoint_says_of_itself_is_taken_with_its_types(tmp_path, where, value, message):
    at(tmp_path).save(STATE, Progress(step=2, data={"drawn": 1}), 0.5)
    path = tmp_path / "2" / "meta" / "metadata"
    values = json.loads(path.read_text())
    section, _, key = where.rpartition(".")
    (values[section] if section else values)[key] = value
    path.write_text(json.dumps(values))
    hashes.seal(tmp_path / "2")
    with pytest.raises(CheckpointError, match=f"2 cannot be read: .*{message}"):
        at(tmp_path).restore(STATE)


def test_a_checkpoint_of_an_earlier_version_is_refused_in_plain_words(tmp_path):
    at(tmp_path).save(STATE, Progress(step=2))
    path = tmp_path / "2" / "meta" / "metadata"
    values = json.loads(path.read_text())
    (tmp_path / "2" / hashes.FILE).unlink()
    path.write_text(json.dumps({key: values[key] for key in ("progress", "identity", "config")}))
    with pytest.raises(CheckpointError, match="written by jaxrl_moe 0.1.0 before.*Go on with the version"):
        at(tmp_path).restore(STATE)
    path.write_text(json.dumps(values | {"format": 3, "written_by": "jaxrl_moe 9.1"}))
    with pytest.raises(CheckpointError, match="written by jaxrl_moe 9.1, in format 3"):
        at(tmp_path).restore(STATE)


def test_checkpoints_beyond_the_step_asked_for_are_set_aside_under_names_of_their_own(tmp_path):
    checkpoints = at(tmp_path, keep=9)
    for step in (1, 2, 3):
        checkpoints.save(STATE, Progress(step=step))
    assert checkpoints.set_aside_after(1) == ["2.aside", "3.aside"]
    checkpoints.save(STATE, Progress(step=3))
    assert checkpoints.set_aside_after(1) == ["3.aside_2"] and at(tmp_path).steps() == [1]
    assert sorted(os.listdir(tmp_path)) == ["1", "2.aside", "3.aside", "3.aside_2"]


def test_a_save_killed_at_whatever_rename_leaves_nothing_and_loses_nothing(tmp_path, monkeypatch):
    """Every rename of the second save in turn is the last thing that the process does."""
    real = pathlib.Path.rename
    at(tmp_path, keep=1).save(STATE, Progress(step=1))

    class Killed(BaseException):
        pass

    def killed_at(number):
        calls = []

        def rename(path, target):
            calls.append(path)
            if len(calls) == number:
                raise Killed
            return real(path, target)

        monkeypatch.setattr(pathlib.Path, "rename", rename)
        try:
            at(tmp_path, keep=1).save(STATE, Progress(step=step))
        except Killed:
            return True
        finally:
            monkeypatch.setattr(pathlib.Path, "rename", real)
        return False

    for step in (1, 2):  # the same step again, which replaces it; a later one
        killed = [killed_at(number) for number in range(1, 5)]
        assert any(killed) and not killed[-1]
        assert at(tmp_path, keep=1).restore(STATE)[1].step in (1, step)
        assert all(name.isdigit() for name in os.listdir(tmp_path))
    assert os.listdir(tmp_path) == ["2"]


@pytest.mark.parametrize("left", [".2.partial", ".1.replaced", ".7.deleted", "2.orbax-checkpoint-tmp-9"])
def test_what_a_killed_process_left_among_the_checkpoints_is_removed_by_the_next(tmp_path, left):
    at(tmp_path).save(STATE, Progress(step=1))
    (tmp_path / left / "state").mkdir(parents=True)
    assert at(tmp_path).steps() == [1] and os.listdir(tmp_path) == ["1"]


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
            match=r"step 3 could not be saved.*the disk is full.*\[1, 2\].*goes on from its newest"):
        checkpoints.save(state, Progress(step=3))
    assert sorted(os.listdir(small_disk / "checkpoints")) == ["1", "2"]
    restored, progress = at(small_disk / "checkpoints").restore(state)
    assert progress.step == 2
    np.testing.assert_array_equal(restored["w"], state["w"])


def test_a_failing_write_is_named_without_privileges_too(tmp_path, monkeypatch):
    checkpoints = at(tmp_path)
    checkpoints.save(STATE, Progress(step=1))

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.ocp.Checkpointer, "save", fail)
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
    names = [identity({}, {}, one.stored(), one.parts.frozen) for one in (old, new)]
    assert names[0] == names[1] and "float32[65, 16]" in names[0].values()
    Checkpoints(tmp_path, keep=1, identity=names[0], config={}).save(old.stored(), Progress(step=1))
    state, _ = Checkpoints(tmp_path, keep=1, identity=names[1], config={}).restore(new.stored())
    layouts = [(leaf.shape, leaf.sharding) for leaf in jax.tree.leaves(new.state)]
    new.take_over(state)
    assert [(leaf.shape, leaf.sharding) for leaf in jax.tree.leaves(new.state)] == layouts
    for ours, theirs in zip(jax.tree.leaves(new.stored()), jax.tree.leaves(old.stored()), strict=True):
        np.testing.assert_array_equal(ours, theirs)


CONFIG = {"seed": 0, "lora": {"rank": 4, "alpha": 8.0}, "model": {"dtype": "bfloat16"},
          "algorithm": {"advantage": "grpo"}, "moe": {"router": "auto"}, "optimizer": {"clip_norm": 1.0}}


@pytest.mark.parametrize("section, key, value, named", [
    ("lora", "rank", 8, "lora.rank: 4 there, 8 here"), ("lora", "rank", 0, "lora.rank: 4 there, 0 here"),
    ("lora", "alpha", 9.0, "lora.alpha: 8.0 there, 9.0 here"),
    ("model", "dtype", "float32", "model.dtype: bfloat16 there, float32 here"),
    ("algorithm", "advantage", "gae", "algorithm.advantage: grpo there, gae here"),
    ("moe", "router", "train", "moe.router: auto there, train here"),
    ("", "seed", 1, "seed: 0 there, 1 here"),
    ("algorithm", "advantage", "rloo", ""), ("moe", "router", "freeze", ""), ("model", "dtype", "", ""),
    ("optimizer", "clip_norm", 0.0, "")])
def test_a_setting_that_a_checkpoint_depends_on_is_named_with_both_values(
        tmp_path, section, key, value, named):
    before = Checkpoints(tmp_path, keep=1, identity={"array a": "float32[1]"}, config=CONFIG)
    before.save(STATE, Progress(step=1))
    other = json.loads(json.dumps(CONFIG))
    (other[section] if section else other)[key] = value
    later = Checkpoints(tmp_path, keep=1, identity={"array a": f"float32[{2 if named else 1}]"}, config=other)
    if not named:
        assert later.restore(STATE)[1].step == 1
        return
    with pytest.raises(CheckpointError, match=f"belongs to another model or run .{named}.\\. "):
        later.restore(STATE)


@pytest.mark.parametrize("change", [
    dict(clip_norm=0.0), dict(weight_decay=0.1), dict(warmup_steps=3, schedule="cosine"),
    dict(b1=0.5, b2=0.9), dict(learning_rate=0.0),
    dict(schedule="linear", clip_norm=0.0, weight_decay=0.2)], ids=str)
def test_a_run_goes_on_under_other_settings_of_its_optimiser(tmp_path, change):
    shape = ModelConfig("qwen3", 65, 16, 1, 2, 2, 8, 24, (False,), (0,))

    def made(section):
        return build_learner(Transformer(shape, rngs=nnx.Rngs(0)), LearnerSettings(section, 10))

    def opened(one):
        named = identity({}, {}, one.stored(), one.parts.frozen)
        return Checkpoints(tmp_path, keep=1, identity=named, config={})

    old = made(OptimizerSection())
    shifted = jax.tree.map(lambda leaf: leaf + jnp.asarray(1, leaf.dtype), old.stored())
    opened(old).save(shifted, Progress(step=1))
    new = made(OptimizerSection(**change))
    state, _ = opened(new).restore(new.stored())
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(shifted), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    names = checkpoint.flat_arrays(new.stored())
    assert not [name for name in names if name.startswith("opt_state") and name.split("/")[1].isdigit()]


def test_a_kl_term_may_come_and_go_but_its_reference_is_the_same(tmp_path):
    def opened(**mark):
        return at(tmp_path, **mark)

    opened(**{"reference weights": "abc"}).save(STATE, Progress(step=1))
    assert opened().restore(STATE)[1].step == 1
    with pytest.raises(CheckpointError, match="reference weights: abc there, def here"):
        opened(**{"reference weights": "def"}).restore(STATE)
    opened().save(STATE, Progress(step=2))
    assert opened(**{"reference weights": "def"}).restore(STATE)[1].step == 2


def test_a_damaged_older_checkpoint_does_not_stop_a_save(tmp_path):
    checkpoints = at(tmp_path, keep=1)
    checkpoints.save(STATE, Progress(step=1), 0.9)
    (tmp_path / "1" / "meta" / "metadata").write_text("{")
    checkpoints.save(STATE, Progress(step=2), 0.1)
    assert checkpoints.steps() == [2] and meta.read(tmp_path / "2").score == 0.1
