"""What a run keeps besides its policy: the weights it started from as the reference, and arrays in the host's
memory."""
import dataclasses
import functools
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bridges
from jaxrl_moe.config import ConfigError, OptimizerSection, resolve
from jaxrl_moe.distributed import offload
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.learning.batch import micro_batches, per_sample, sample_weights
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.learning.objective import PolicyObjective
from jaxrl_moe.learning.samples import from_conversations, with_values
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.rl.objective import make_objective
from jaxrl_moe.runs.checkpoints.checkpoint import CheckpointError, Checkpoints, Progress
from jaxrl_moe.training import pipeline
from tests.helpers.settings import refuse_settings
from tests.helpers.tiny_run import make_files, settings

CONFIG = ModelConfig("qwen3_moe", 66, 32, 2, 4, 2, 8, 48, (True, False), (0, 0), num_experts=4,
                     num_experts_per_tok=2, moe_intermediate_size=16, norm_topk_prob=True)
OBJECTIVE = PolicyObjective(make_objective("reinforce", kl_coef=0.1, kl_estimator="k3"))
MESH = {"fsdp": 2, "expert": 2, "tensor": 2}


def learner(*, mesh=None, dtype=jnp.float32, lora=None, **options):
    model = Transformer(CONFIG, rngs=nnx.Rngs(0), dtype=dtype, lora=lora)
    settings = LearnerSettings(OptimizerSection(learning_rate=1e-2), 10, **options)
    return build_learner(model, settings, make_placement(mesh) if mesh else None)


def packed(samples):
    return micro_batches(samples, 8 * 32, False, sample_weights(samples, "token-mean"))


@functools.cache
def samples():
    rng = np.random.default_rng(0)
    return from_conversations([(rng.integers(0, 64, n), np.r_[0, rng.integers(0, 2, n - 2), 1])
                               for n in (30, 17, 5, 31, 3, 20, 9, 28)])


def logprobs(one, **options):
    parts = packed(samples())
    return np.concatenate(
        per_sample(parts, [jax.device_get(one.forward(part.batch, **options).logprobs_BT) for part in parts]))


def step(one):
    """An update against the reference; returns its metrics."""
    parts = packed(samples())
    found = per_sample(
        parts, [jax.device_get(one.forward(part.batch, reference=True).logprobs_BT) for part in parts])
    return jax.device_get(
        one.update([part.batch for part in packed(with_values(samples(), "ref_logprobs_T", found))],
                   OBJECTIVE))


def assert_same(one, other):
    for ours, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(jax.device_get(ours), jax.device_get(theirs))


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.bfloat16, marks=pytest.mark.slow)])
def test_the_reference_of_full_fine_tuning_stays_where_the_policy_started(dtype):
    one = learner(dtype=dtype, reference=True)
    start = logprobs(learner(dtype=dtype))
    np.testing.assert_array_equal(logprobs(one), start)
    assert step(one)["policy/kl"] == 0
    np.testing.assert_array_equal(logprobs(one, reference=True), start)
    moved = logprobs(one)
    trained = np.concatenate([sample.mask_T for sample in samples()]) > 0
    difference = (start.astype(np.float64) - moved)[trained]
    expected = np.mean(np.exp(difference) - difference - 1)
    assert step(one)["policy/kl"] == pytest.approx(expected, rel=1e-4) and expected > 1e-4


@pytest.mark.slow
def test_a_mesh_keeps_the_same_reference():
    alone = learner(reference=True)
    mesh = learner(reference=True, mesh=MESH, offload=("optimizer", "reference"))
    for one in (alone, mesh):
        step(one)
    np.testing.assert_allclose(logprobs(mesh, reference=True), logprobs(alone, reference=True), rtol=1e-5,
                               atol=1e-6)
    assert step(mesh)["policy/kl"] == pytest.approx(step(alone)["policy/kl"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mesh, lora", [(None, LoraConfig(4, 8.0)), (MESH, None)],
                         ids=["alone-lora", "mesh-full"])
def test_what_lies_in_the_hosts_memory_is_the_same_to_the_bit(mesh, lora, tmp_path):
    plain = learner(mesh=mesh, lora=lora, reference=lora is None)
    away = learner(mesh=mesh, lora=lora, reference=lora is None, offload=("optimizer", "reference"))
    for _ in range(2):
        assert_same(step(plain), step(away))
    assert_same(plain.state, away.state)
    kept = away.reference and away.reference.weights  # adapters keep none
    leaves = jax.tree.leaves((away.state.opt_state, kept))
    kinds = {leaf.sharding.memory_kind for leaf in leaves if leaf.ndim}
    assert kinds == {offload.KIND} and jax.tree.leaves(
        away.state.trainable)[0].sharding.memory_kind != offload.KIND
    for saved, like in ((plain, away), (away, plain)):
        checkpoints = Checkpoints(tmp_path / str(saved is plain), keep=1, identity={}, config={})
        checkpoints.save(saved.state, Progress(step=2))
        restored, _ = checkpoints.restore(like.state)
        assert_same(restored, saved.state)
        for leaf, other in zip(jax.tree.leaves(restored), jax.tree.leaves(like.state), strict=True):
            assert leaf.sharding.memory_kind == other.sharding.memory_kind


def run(files, folder, **overrides):
    """Full fine-tuning with a KL term, its optimiser and reference in the host's memory."""
    short = {
        "lora__rank": 0,
        "lora__dropout": 0.0,
        "lora__alpha": 32.0,
        "lora__targets": ("all-linear",),
        "algorithm__kl_coef": 0.1,
        "eval__every": 0,
        "eval__at_start": False,
        "eval__greedy": False,
        "data__eval_path": "",
        "checkpoint__every": 1,
        "rollout__max_tokens": 24,
        "train__offload": ("optimizer", "reference"),
        "logging__tensorboard": False
    }
    assert pipeline.run_all(resolve(settings(files, folder, **short | overrides)), bridges)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{
        name: value for name, value in row.items() if name.startswith(("policy/", "reward/", "moe/"))
    } for row in rows]


@pytest.mark.slow
def test_full_fine_tuning_resumes_with_the_reference_it_started_from(tmp_path):
    files = make_files(tmp_path)
    whole = run(files, tmp_path / "whole", train__steps=3)
    kl = [row["policy/kl"] for row in whole]
    # the learning rate's warm-up starts at 0: nothing moves before the second step
    assert abs(kl[0]) < 1e-9 < 1e-6 < kl[1] < kl[2]
    run(files, tmp_path / "cut", train__steps=1)
    shutil.copytree(tmp_path / "cut", tmp_path / "other")
    assert run(files, tmp_path / "cut", train__steps=3) == whole
    on_mesh = run(files, tmp_path / "mesh", train__steps=1, mesh__expert=2, mesh__tensor=2)
    for name, value in whole[0].items():
        assert on_mesh[0][name] == pytest.approx(value, rel=2e-3, abs=1e-5), name
    shutil.rmtree(files / "model")
    shutil.copytree(tmp_path / "whole" / "model", files / "model")
    with pytest.raises(CheckpointError, match="reference weights"):
        run(files, tmp_path / "other", train__steps=3)


def test_offloading_is_refused_where_it_cannot_be(monkeypatch):
    config = settings(pathlib.Path("files"), "run")
    config.train.offload = ("moments",)
    with pytest.raises(ConfigError, match="train.offload"):
        refuse_settings(resolve(config))
    config.train.offload = ("optimizer",)
    monkeypatch.setattr(offload, "KIND", "elsewhere")
    with pytest.raises(ConfigError, match="needs the host's pinned memory"):
        refuse_settings(dataclasses.replace(resolve(config)))
