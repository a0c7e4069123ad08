"""`python -m bridges`: each command, its exit status and its errors."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import bridges
from bridges.__main__ import main
from bridges.compare import verify as verify_module
from bridges.compare.score import read_ids
from bridges.compare.verify import our_logits, verify
from bridges.errors import BridgeError
from bridges.hf.importing import base_weights, load_model
from bridges.training_runs import find_step
from jaxrl_moe.config import Config, LoraSection, ModelSection, OptimizerSection, to_json
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.runs.checkpoints.checkpoint import Checkpoints, Progress
from jaxrl_moe.runs.checkpoints.identity import identity
from tests.helpers import oracles
from tests.helpers.parity import hf_logits, randomise_adapters, relative
from tests.helpers.tiny_models import make_checkpoint

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf")
    make_checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(folder, tmp_path_factory):
    model = bridges.load_model(folder, lora=LoraConfig(4, 8.0))
    randomise_adapters(model)
    return bridges.export_adapter(model, tmp_path_factory.mktemp("peft") / "adapter", base=folder)


def run(*words):
    return main([str(word) for word in words])


def save_run(folder, run_dir, lora):
    """A checkpoint as training writes it; returns the trained model."""
    model = bridges.load_model(folder, lora=lora)
    if lora is None:
        for variable in base_weights(model).values():
            variable.set_value(variable[...] * 1.5)
    else:
        randomise_adapters(model)
    learner = build_learner(model, LearnerSettings(OptimizerSection(), 10))
    section = LoraSection(rank=0) if lora is None else LoraSection(lora.rank, lora.alpha)
    config = to_json(Config(model=ModelSection(path=str(folder)), lora=section))
    checkpoints = Checkpoints(
        run_dir / "checkpoints", keep=2, config=config,
        identity=identity(learner.config.to_hf(), {}, learner.state, learner.parts.frozen))
    for step in (3, 12):
        checkpoints.save(learner.state, Progress(step=step))
    return learner.model()


def score_rows(tmp_path, rows, *words):
    (tmp_path / "ids.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status = run("score", "--input", tmp_path / "ids.jsonl", "--output", tmp_path / "out.jsonl",
                 "--overwrite", *words)
    written = (tmp_path / "out.jsonl").read_text().splitlines() if status == 0 else []
    return status, [np.array(json.loads(line)["logprobs"], np.float32) for line in written]


def expected_logprobs(hf_model, ids):
    logits = hf_logits(hf_model, np.array([ids]))[0].astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logprobs[np.arange(len(ids) - 1), ids[1:]]


def test_verify_accepts_a_good_checkpoint_and_its_adapter(folder, adapter, capsys):
    oracles.peft()
    assert run("verify", folder, "--length", 24) == 0
    assert "2 x 24 tokens" in capsys.readouterr().out
    assert run("verify", folder, "--adapter", adapter, "--length", 24) == 0


def test_verify_fails_above_the_tolerance(folder, capsys):
    oracles.torch()
    assert run("verify", folder, "--length", 24, "--tolerance", "1e-12") == 1
    assert "Error:" in capsys.readouterr().err


def test_verify_follows_the_other_side_where_a_router_is_tied(tmp_path):
    """Equal rows of a router tie every choice, and each side breaks ties in its own way."""
    oracles.torch()
    make_checkpoint(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.1.mlp.gate.weight"][:] = 0
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    found = verify(tmp_path, length=24)
    assert found.error < 1e-5 and found.misrouted == 0


def test_verify_counts_clear_choices_that_differ(folder, monkeypatch):
    """A router that is off by a permutation of its experts is a fault, however small the logits' error."""
    oracles.torch()
    theirs = verify_module._their_logits

    def shifted(*arguments):
        logits, chosen_LBTA = theirs(*arguments)
        return logits, (chosen_LBTA + 1) % 4

    monkeypatch.setattr(verify_module, "_their_logits", shifted)
    assert verify(folder, length=24).misrouted > 48


def test_score_gives_the_logprobs_of_transformers_in_the_order_of_the_input(folder, tmp_path):
    hf_model = oracles.transformers_model(folder)
    rows = [np.random.default_rng(n).integers(0, 320, n).tolist() for n in (40, 2, 17, 1, 33, 0, 16, 5)]
    status, found = score_rows(tmp_path, [{"ids": ids} for ids in rows], "--model", folder)
    assert status == 0 and [len(row) for row in found] == [max(len(ids) - 1, 0) for ids in rows]
    for ids, row in zip(rows, found):
        if len(ids) > 1:
            assert relative(row, expected_logprobs(hf_model, ids)) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_score_applies_an_adapter(folder, adapter, tmp_path):
    theirs = oracles.peft_model(folder, adapter)
    ids = np.random.default_rng(0).integers(0, 320, 20).tolist()
    status, found = score_rows(tmp_path, [{"ids": ids}], "--model", folder, "--adapter", adapter)
    assert status == 0 and relative(found[0], expected_logprobs(theirs, ids)) < 1e-5


@pytest.mark.parametrize("row, word", [({
    "id": [1]
}, "ids"), ({
    "ids": [1, 320]
}, "320"), ({
    "ids": [-1]
}, "-1"), ({
    "ids": [1.5]
}, "ids"), ({
    "ids": "text"
}, "ids"), ([1], "ids"), ({
    "ids": [1, True]
}, "ids"), ({
    "ids": [2**63]
}, "ids")])
def test_score_names_the_line_that_it_cannot_read(folder, tmp_path, capsys, row, word):
    status, _ = score_rows(tmp_path, [{"ids": [1, 2]}, row], "--model", folder)
    error = capsys.readouterr().err
    assert status == 1 and "line 2" in error and word in error and not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("output, words", [("/dev/null", "no regular file"), ("out.jsonl", "--overwrite"),
                                           (".", "no regular file"),
                                           ("a" * 5000, "a name of more than 255 bytes")])
def test_score_replaces_no_file_unasked_and_nothing_else_ever(tmp_path, capsys, output, words):
    """Before the model is read: here is none."""
    (tmp_path / "out.jsonl").write_text("mine")
    asked = ["--overwrite"] if words == "no regular file" else []
    status = run("score", "--model", tmp_path / "none", "--input", tmp_path / "ids.jsonl", "--output",
                 tmp_path / output, *asked)
    error = capsys.readouterr().err
    assert status == 1 and words in " ".join(error.split())
    assert (tmp_path / "out.jsonl").read_text() == "mine" and os.listdir(tmp_path) == ["out.jsonl"]


def test_score_writes_no_logprobs_that_are_not_finite(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("bridges.compare.score.logprobs", lambda *_: [np.array([np.nan], np.float32)])
    status, _ = score_rows(tmp_path, [{"ids": [1, 2]}], "--model", folder)
    assert status == 1 and "row 1 of" in capsys.readouterr().err and not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("words", [
    ("export", "a", "b", "--max-shard-size", "0GB"), ("export", "a", "b", "--max-shard-size", "nanGB"),
    ("export", "a", "b", "--max-shard-size", "\u00b2GB"), ("export", "a", "b", "--max-shard-size", "5"),
    ("verify", "a", "--rows", "0"), ("verify", "a", "--length", "-3"), ("verify", "a", "--seed", "-1"),
    ("diff", "a", "b", "--rows", "many"), ("verify", "a", "--tolerance", "nan"),
    ("verify", "a", "--tolerance", "inf"), ("verify", "a", "--tolerance", "-1"),
    ("push", "http://127.0.0.1:1", "a", "--engine=sglang", "--tolerance", "tight")])
def test_numbers_out_of_bounds_are_refused_as_the_command_is_read(words, capsys):
    assert run(*words) == 1 and repr(words[-1]) in capsys.readouterr().err


def test_push_leaves_weights_under_a_plain_name_alone(folder, capsys):
    status = run("push", "http://127.0.0.1:1", folder, "--engine", "vllm", "--name", "../elsewhere")
    assert status == 1 and "plain file name" in " ".join(capsys.readouterr().err.split())


def test_merge_gives_a_checkpoint_that_scores_as_base_and_adapter_do(folder, adapter, tmp_path):
    assert run("merge", "--model", folder, "--adapter", adapter, "--output", tmp_path / "merged") == 0
    rows = [{"ids": np.random.default_rng(0).integers(0, 320, 20).tolist()}]
    _, live = score_rows(tmp_path, rows, "--model", folder, "--adapter", adapter)
    _, merged = score_rows(tmp_path, rows, "--model", tmp_path / "merged")
    assert relative(merged[0], live[0]) < 1e-5


def test_import_then_export_gives_the_same_checkpoint(folder, tmp_path):
    assert run("import", folder, tmp_path / "ours") == 0
    assert run("export", tmp_path / "ours", tmp_path / "out") == 0
    assert (tmp_path / "out/model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert run("export", tmp_path / "ours", tmp_path / "cast", "--dtype", "bfloat16", "--max-shard-size",
               "60KB") == 0
    assert len(list((tmp_path / "cast").glob("model-*.safetensors"))) > 1


@pytest.mark.parametrize("lora", [LoraConfig(4, 8.0), None], ids=["adapters", "all weights"])
def test_a_training_run_exports_its_newest_policy(folder, tmp_path, lora):
    trained = save_run(folder, tmp_path / "run", lora)
    assert find_step(tmp_path / "run").name == "12"
    assert run("export", tmp_path / "run", tmp_path / "out") == 0
    ids = np.random.default_rng(0).integers(0, 320, (2, 20))
    assert relative(our_logits(load_model(tmp_path / "out"), ids)[0], our_logits(trained, ids)[0]) < 1e-5
    assert (tmp_path / "out/tokenizer.json").exists()


@pytest.mark.parametrize("damage", ["a bit", "a file", "meta", "state", "step"])
@pytest.mark.parametrize("command", ["export", "adapter", "critic"])
def test_a_damaged_checkpoint_is_not_exported(folder, tmp_path, capsys, command, damage):
    save_run(folder, tmp_path / "run", LoraConfig(4, 8.0))
    step = tmp_path / "run" / "checkpoints" / "12"
    path = max((path for path in step.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "a bit":
        path.write_bytes(data)
    elif damage == "a file":
        path.unlink()
    elif damage == "step":
        step = step.rename(step.with_name("13"))
    else:
        shutil.rmtree(step / damage)
    assert run(command, tmp_path / "run", tmp_path / "out") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"The checkpoint {step} cannot be read" in said and "has 3" in said
    assert not (tmp_path / "out").exists()


def test_a_run_in_bfloat16_is_exported_where_the_default_is_float32(folder, tmp_path):
    """The base weights' fingerprint is that of the dtype stored with the checkpoint."""
    model = bridges.load_model(folder, lora=LoraConfig(4, 8.0), dtype="bfloat16")
    randomise_adapters(model)
    learner = build_learner(model, LearnerSettings(OptimizerSection(), 10))
    config = Config(model=ModelSection(path=str(folder), dtype="bfloat16"), lora=LoraSection(4, 8.0))
    checkpoints = Checkpoints(
        tmp_path / "run" / "checkpoints", keep=1, config=to_json(config),
        identity=identity(learner.config.to_hf(), {}, learner.stored(), learner.parts.frozen))
    checkpoints.save(learner.stored(), Progress(step=3))
    for command in ("export", "adapter"):
        assert run(command, tmp_path / "run", tmp_path / command) == 0


def test_a_training_run_exports_its_adapter(folder, tmp_path):
    trained = save_run(folder, tmp_path / "run", LoraConfig(4, 8.0))
    assert run("adapter", tmp_path / "run/checkpoints/3", tmp_path / "peft") == 0
    again = bridges.load_model(folder, lora=bridges.read_lora(tmp_path / "peft"))
    bridges.import_adapter(again, tmp_path / "peft")
    ids = np.random.default_rng(0).integers(0, 320, (2, 20))
    np.testing.assert_array_equal(our_logits(again, ids)[0], our_logits(trained, ids)[0])


def test_adapters_are_not_laid_over_another_base(folder, tmp_path, capsys):
    save_run(folder, tmp_path / "run", LoraConfig(4, 8.0))
    make_checkpoint(tmp_path / "other", seed=1)
    assert run("export", tmp_path / "run", tmp_path / "out", "--base", tmp_path / "other") == 1
    assert "other weights" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as caught:
        run("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("import", "export", "merge", "adapter", "critic", "verify", "score"))


def test_a_bad_folder_ends_the_process_with_one_line_and_status_1(tmp_path):
    command = [sys.executable, "-m", "bridges", "verify", str(tmp_path / "absent")]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                              env=os.environ | {"JAX_PLATFORMS": "cpu"})
    assert finished.returncode == 1
    assert finished.stderr.startswith("Error: ") and finished.stderr.count(
        "\n") == 2 and "absent" in finished.stderr


@pytest.mark.parametrize("words, message", [
    ((), "the following arguments are required: COMMAND"),
    (("exprt",), "invalid choice: 'exprt'"),
    (("diff", "a"), "the following arguments are required: b"),
    (("diff", "a", "b", "--row=3"), "--row is not an option. Did you mean '--rows'?"),
    (("diff", "a", "b", "--rows"), "--rows: expected one argument"),
    (("diff", "a", "b", "--rows=x"), "--rows: 'x' is not a whole number from 1"),
    (("diff", "a", "b", "--rows=1", "--rows=2"), "--rows is given twice, as 1 and as 2"),
    (("verify", "~nonesuch_user/at/all"), "begins with the home folder of 'nonesuch_user'"),
    (("export", "a", "b", "--max-shard-size=5"), "'5' is not a size such as 5GB"),
    (("verify", "a" * 300), "has a name of more than 255 bytes"),
    (("verify", __file__), "is not a folder")])
def test_a_mistake_on_the_command_line_is_one_paragraph_and_status_1(capsys, words, message):
    assert run(*words) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("Error: ") and "\n\n" not in printed and "Traceback" not in printed
    assert message in " ".join(printed.split())


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_rows_is_refused_instead_of_scored(tmp_path, text):
    (tmp_path / "ids.jsonl").write_text(text)
    with pytest.raises(BridgeError, match="ids.jsonl has no rows"):
        read_ids(tmp_path / "ids.jsonl", 320)
