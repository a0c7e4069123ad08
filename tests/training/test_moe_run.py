"""Whole runs with the settings of the moe section: replay with a balancing loss on trained routers, and a
selection bias."""
import json

import numpy as np
import pytest

import bridges
from bridges.compare.verify import our_logits
from bridges.hf.importing import adapters, base_weights, routers
from bridges.training_runs import find_step, load_run
from jaxrl_moe.config import ConfigError, resolve
from jaxrl_moe.model.families.registry import from_scratch
from jaxrl_moe.runs.logs import Logs
from jaxrl_moe.runs.report import draw_load, read_rows
from jaxrl_moe.training import pipeline
from tests.helpers import tiny_run
from tests.helpers.close import relative

TOKENS = np.random.default_rng(0).integers(0, 320, (2, 24))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_run.make_files(tmp_path_factory.mktemp("files"))


def settings(files, run_dir, **overrides):
    short = {
        "train__steps": 2,
        "eval__every": 0,
        "eval__at_start": False,
        "eval__greedy": False,
        "data__eval_path": "",
        "algorithm__kl_coef": 0.0,
        "checkpoint__every": 1,
        "rollout__max_tokens": 12
    }
    return tiny_run.settings(files, run_dir, **short | overrides)


@pytest.fixture(scope="module")
def replayed(files, tmp_path_factory):
    """R3, a balancing loss and routers trained with adapters on every layer, each layer rematerialised."""
    run_dir = tmp_path_factory.mktemp("replayed") / "run"
    config = settings(files, run_dir, moe__replay="r3", moe__aux_loss_coef=0.01, moe__z_loss_coef=1e-3,
                      moe__router="train", train__remat="full", lora__targets=("all-linear",))
    with pytest.warns(UserWarning, match="which PEFT loads and vLLM and SGLang refuse"):
        assert pipeline.run_all(resolve(config), bridges)
    return run_dir


def test_the_log_has_the_names_of_routing_and_of_replay(replayed):
    for row in read_rows(replayed / "metrics.jsonl"):
        assert row["moe/dropped"] == 0 and row["moe/replay_bytes_per_token"] == 2 * 2
        assert 0.8 < row["moe/replayed_frac"] < 1 and row["moe/z_loss"] > 0
        assert 1 < row["moe/aux_loss"] < 4 and row["mismatch/kl"] < 1e-9
        for layer in range(2):
            low, high, entropy = (row[f"moe/layer_{layer:02d}/{name}"]
                                  for name in ("min_vio", "max_vio", "load_entropy"))
            assert -1 <= low <= 0 <= high <= 1 and 0 < entropy <= np.log(4) + 1e-9


def test_the_load_of_each_step_is_logged_and_drawn(replayed):
    rows = read_rows(replayed / "moe_load.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        load = np.array(row["load"])
        assert load.shape == (2, 4) and len(set(load.sum(axis=1))) == 1
        tokens = sum(
            len(one["prompt_ids"]) + len(one["completion_ids"]) for one in drawn(replayed, row["step"]))
        assert load.sum() == tokens * 2 * 2
    assert (replayed / "moe_load.png").read_bytes().startswith(b"\x89PNG")


def drawn(run_dir, step):
    return [
        row for row in read_rows(run_dir / "trajectories.jsonl")
        if row["step"] == step and row["phase"] == "train"
    ]


def test_nothing_is_drawn_of_a_model_without_routers(tmp_path):
    assert not draw_load([], tmp_path / "moe_load.png").exists()


def test_the_trained_routers_stand_in_checkpoint_merged_model_and_adapter_alike(files, replayed):
    base = bridges.load_model(files / "model")
    model, _ = load_run(find_step(replayed))
    assert model.lora.router
    merged = bridges.load_model(replayed / "model")
    fresh = bridges.load_model(files / "model", lora=bridges.read_lora(replayed / "adapter"))
    bridges.import_adapter(fresh, replayed / "adapter")
    for path, variable in routers(base).items():
        assert relative(routers(model)[path][...], variable[...]) > 1e-4
        for other in (merged, fresh):
            np.testing.assert_array_equal(routers(other)[path][...], routers(model)[path][...])
    expected = our_logits(model, TOKENS)[0]
    assert relative(our_logits(merged, TOKENS)[0], expected) < 1e-5 and relative(
        our_logits(fresh, TOKENS)[0], expected) < 1e-5


@pytest.fixture(scope="module")
def biased_files(files, tmp_path_factory):
    """The files with a model that has a selection bias."""
    folder = tmp_path_factory.mktemp("biased")
    for path in files.glob("*.jsonl"):
        (folder / path.name).write_bytes(path.read_bytes())
    model = bridges.load_model(files / "model")
    config = json.loads((files / "model" / "config.json").read_text()) | {"router_selection_bias": True}
    for path in (files / "model").iterdir():
        (folder / "model").mkdir(exist_ok=True)
        (folder / "model" / path.name).write_bytes(path.read_bytes())
    (folder / "model" / "config.json").write_text(json.dumps(config))
    from safetensors.numpy import load_file, save_file
    tensors = load_file(folder / "model" / "model.safetensors")
    for layer in range(model.config.num_layers):
        tensors[f"model.layers.{layer}.mlp.gate.e_score_correction_bias"] = np.zeros(4, np.float32)
    save_file(tensors, folder / "model" / "model.safetensors")
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*selection bias")
def test_a_bias_moves_in_a_run_and_stands_in_its_checkpoint_and_export(biased_files, tmp_path):
    """Full fine-tuning with frozen routers, R2, and two updates a step."""
    config = settings(biased_files, tmp_path / "run", lora__rank=0, lora__dropout=0.0, moe__router="freeze",
                      moe__bias_rate=0.01, moe__replay="r2")
    assert pipeline.run_all(resolve(config), bridges)
    exported, before = (base_weights(bridges.load_model(folder / "model"))
                        for folder in (tmp_path / "run", biased_files))
    steps = exported["stacks.0.mlp.router.bias"][...] / 0.01
    assert np.abs(steps).max() > 1 and np.abs(steps.sum(axis=1)).max() < 1e-3
    np.testing.assert_array_equal(exported["stacks.0.mlp.router.weight"][...],
                                  before["stacks.0.mlp.router.weight"][...])
    model, _ = load_run(find_step(tmp_path / "run"))
    for path, value in base_weights(model).items():
        np.testing.assert_array_equal(exported[path][...], value[...], err_msg=path)
    assert not adapters(model)


def test_a_resumed_run_cuts_the_log_of_loads_back_to_its_checkpoint(replayed, tmp_path):
    lines = (replayed / "moe_load.jsonl").read_bytes()
    (tmp_path / "moe_load.jsonl").write_bytes(lines + lines[:30])  # a kill in the middle of a line
    list(Logs(tmp_path).cut_back(1, {}))
    assert [row["step"] for row in read_rows(tmp_path / "moe_load.jsonl")] == [1]
    list(Logs(tmp_path).cut_back(-1, {}))
    assert not (tmp_path / "moe_load.jsonl").exists() and (tmp_path / "moe_load.jsonl.earlier").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This run trains the routers")
def test_fine_tuning_adds_the_balancing_loss_too(files, tmp_path):
    rows = {}
    for coef in (0.0, 0.5):
        config = settings(files, tmp_path / str(coef), sft__steps=1, lora__rank=0, lora__dropout=0.0,
                          moe__aux_loss_coef=coef, train__tokens_per_micro_batch=96)
        assert pipeline.run_sft(resolve(config), bridges)
        (rows[coef],) = read_rows(tmp_path / str(coef) / "sft" / "metrics.jsonl")
        assert (tmp_path / str(coef) / "sft" / "moe_load.png").exists()
    assert rows[0.0]["moe/aux_loss"] == rows[0.5]["moe/aux_loss"]
    assert relative(rows[0.5]["sft/loss"], rows[0.0]["sft/loss"] + 0.5 * rows[0.5]["moe/aux_loss"]) < 1e-5


def test_a_setting_of_routers_that_the_model_cannot_follow_is_refused_before_any_training(files, tmp_path):
    config = settings(files, tmp_path / "run", moe__bias_rate=0.01, sft__steps=4)
    with pytest.raises(ConfigError, match="moe.bias_rate = 0.01 .* has none"):
        pipeline.run_all(resolve(config), bridges)
    assert not (tmp_path / "run" / "sft").exists()


def test_a_model_made_from_scratch_gets_a_selection_bias_if_asked_for():
    config = settings_of_scratch(router_bias=True)
    assert from_scratch(config.scratch, 320).router_bias
    assert not from_scratch(settings_of_scratch().scratch, 320).router_bias


def settings_of_scratch(**fields):
    return resolve({"scratch": {"vocab_size": 320} | fields})
