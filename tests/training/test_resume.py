"""Going on: under other settings, on another machine, from damaged files. SFT stands for both phases, as they
open their runs alike."""
import contextlib
import json
import pathlib
import shutil

import numpy as np
import pytest

import bridges
from bridges.training_runs import find_step, load_run
from jaxrl_moe.checks import run_dir
from jaxrl_moe.checks import start as checks
from jaxrl_moe.config import resolve
from jaxrl_moe.runs.checkpoints import resuming
from jaxrl_moe.runs.checkpoints.checkpoint import CheckpointError
from jaxrl_moe.training import pipeline, sft
from jaxrl_moe.types import UserError
from tests.helpers import tiny_run
from tests.helpers.runs import rows


class Ended(Exception):
    """Raised in place of the export: the phase's checkpoints stay to be gone on from."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_run.make_files(tmp_path_factory.mktemp("files"))


def settings(files, run_dir, **overrides):
    """Adapters over four conversations a step, a checkpoint at every step."""
    usual = dict(sft__steps=3, sft__full=False, sft__max_tokens=64, lora__dropout=0.0, checkpoint__every=1,
                 eval__at_start=False, data__eval_path="", eval__every=0, logging__tensorboard=False)
    return resolve(tiny_run.settings(files, run_dir, **usual | overrides))


def start(config):
    """Runs SFT up to its export; the conversations of each step, by number."""
    taken = []
    with pytest.MonkeyPatch.context() as patch:
        def micro_batches(chosen, *rest, **more):
            taken.append([sample.group for sample in chosen])
            return real(chosen, *rest, **more)

        def end(*_):
            raise Ended

        real = sft.micro_batches
        patch.setattr(sft, "micro_batches", micro_batches)
        patch.setattr(pipeline, "export", end)
        with contextlib.suppress(Ended):
            pipeline.run_sft(config, bridges)
    return taken


@pytest.fixture(scope="module")
def begun(files, tmp_path_factory):
    """(run_dir, conversations of each step) of three steps on a machine whose weights are bfloat16."""
    run_dir = tmp_path_factory.mktemp("begun") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resuming, "default_dtype", lambda platform: "bfloat16")
        return run_dir, start(settings(files, run_dir))


@pytest.fixture
def copy(begun, tmp_path):
    shutil.copytree(begun[0], tmp_path / "run")
    return tmp_path / "run"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_goes_on_elsewhere_with_other_batches_and_another_optimiser(files, begun, copy, capsys):
    """The next row is the next one, the dtype the stored one; and what comes of it is exported here."""
    changed = dict(sft__sequences_per_step=6, sft__steps=6, optimizer__clip_norm=0.0,
                   optimizer__weight_decay=0.1, optimizer__schedule="cosine")
    taken = begun[1] + start(settings(files, copy, **changed))
    order = [*np.random.default_rng([0, 0]).permutation(24), *np.random.default_rng([0, 1]).permutation(24)]
    assert [len(step) for step in taken] == [4, 4, 4, 6, 6, 6]
    assert [number for step in taken for number in step] == order[:30]
    assert [row["step"] for row in rows(copy / "sft" / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    said = " ".join(capsys.readouterr().out.split())
    assert "Going on from the checkpoint of step 3" in said and "optimizer.clip_norm: 1.0 -> 0.0" in said
    assert json.loads((copy / "sft" / "config.json").read_text())["model"]["dtype"] == "bfloat16"
    model, _ = load_run(find_step(copy / "sft"))
    assert model.embed.weight.dtype == "bfloat16" and find_step(copy / "sft").name == "6"


@pytest.mark.parametrize("changes, message", [
    (dict(lora__rank=8), "lora.rank = 8 cannot go on from .*trained with lora.rank = 4"),
    (dict(lora__targets=("q_proj",)), "lora.targets = .*trained with lora.targets = "),
    (dict(model__dtype="float32"), "model.dtype = 'float32' cannot go on from .*model.dtype = 'bfloat16'"),
    (dict(sft__full=True), "lora.rank = 0 cannot go on from .*lora.rank = 4"),
    (dict(moe__router="train"), "moe.router = 'train' cannot go on from .*moe.router = 'auto'"),
    (dict(seed=1), "holds a run with seed 0, but seed = 1"),
    (dict(checkpoint__resume_step=9), "resume_step = 9: there is no checkpoint of that step.*are 1, 2, 3"),
    (dict(checkpoint__resume_step=1, checkpoint__resume=False), "resume_step = 1 has no effect"),
    (dict(checkpoint__resume=False), "checkpoint.resume is false")], ids=str)
def test_a_change_that_cannot_be_gone_on_with_is_refused_before_a_model_is_loaded(
        files, begun, monkeypatch, changes, message):
    monkeypatch.setattr(pipeline, "build", None)
    before = contents(begun[0])
    with pytest.raises(UserError, match=message):
        start(settings(files, begun[0], **changes))
    assert contents(begun[0]) == before


@pytest.mark.parametrize("changes, message", [
    (dict(sft__path="{tmp}/other.jsonl"), "conversations that are kept: 24 then, 23 now"),
    (dict(sft__path="{tmp}/turned.jsonl"), "as many conversations, but with other contents"),
    (dict(sft__max_tokens=32), "conversations that are kept: 24 then, 21 now.*sft.max_tokens: 64 -> 32"),
    (dict(model__path="{tmp}/model"), "base weights: .* there, .* here")])
def test_other_data_or_weights_are_refused_and_the_run_stays_as_it_was(
        files, begun, tmp_path, changes, message):
    lines = (files / "sft.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "other.jsonl").write_text("".join(lines[1:]))
    (tmp_path / "turned.jsonl").write_text("".join(reversed(lines)))
    if "model__path" in changes:
        tiny_run.make_checkpoint(tmp_path / "model", num_hidden_layers=2, max_position_embeddings=128, seed=9)
    before = contents(begun[0])
    changes = {key: value.format(tmp=tmp_path) if isinstance(value, str) else value
               for key, value in changes.items()}
    with pytest.raises(UserError, match=message):
        start(settings(files, begun[0], **changes))
    assert contents(begun[0]) == before


def flip(folder):
    path = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_from_a_damaged_checkpoint_the_one_before_is_gone_on_from_to_the_same_numbers(files, copy, capsys):
    before = rows(copy / "sft" / "metrics.jsonl")
    flip(copy / "sft" / "checkpoints" / "3" / "state")
    kept = contents(copy)
    with pytest.raises(CheckpointError, match="checkpoints/3 cannot be read.*checkpoint.resume_step=2"):
        start(settings(files, copy))
    assert contents(copy) == kept
    start(settings(files, copy, checkpoint__resume_step=2))
    assert [row["sft/loss"] for row in rows(copy / "sft" / "metrics.jsonl")] == [
        row["sft/loss"] for row in before]
    assert rows(copy / "sft" / "metrics.jsonl.after_step_2") == before[2:]
    there = sorted(path.name for path in (copy / "sft" / "checkpoints").iterdir())
    assert there == ["1", "2", "3", "3.aside"]
    said = " ".join(capsys.readouterr().out.split())
    assert "later checkpoints are now called 3.aside" in said and "1 rows (step 3)" in said


def test_a_log_that_is_gone_is_told_and_the_run_goes_on(files, copy, capsys):
    (copy / "sft" / "metrics.jsonl").unlink()
    (copy / "sft" / "config.json").unlink()
    start(settings(files, copy))
    said = " ".join(capsys.readouterr().out.split())
    assert "metrics.jsonl is gone; what it says of steps 1 to 3 is missing" in said
    assert "config.json is gone; the settings are compared with the checkpoint's own" in said
    assert json.loads((copy / "sft" / "config.json").read_text())["model"]["dtype"] == "bfloat16"


def test_logs_without_their_folder_of_checkpoints_are_refused_and_stay(files, copy, monkeypatch):
    monkeypatch.setattr(pipeline, "build", None)
    shutil.rmtree(copy / "sft" / "checkpoints")
    before = contents(copy)
    with pytest.raises(UserError, match="holds metrics.jsonl, moe_load.jsonl of .*'checkpoints' is gone"):
        start(settings(files, copy))
    assert contents(copy) == before


@pytest.mark.parametrize("text, message", [
    ("{", "config.json is no JSON"), ('{"seed": "x"}', "config.json holds no settings.*seed"),
    ('{"lora": 3}', "config.json holds no settings.*lora"), ('{"seed": 0, "seed": 0}', "stands twice"),
    ('{"nonesuch": 1}', "There is no setting 'nonesuch'")])
def test_a_damaged_config_json_is_refused_with_its_mend(files, copy, monkeypatch, text, message):
    monkeypatch.setattr(pipeline, "build", None)
    (copy / "sft" / "config.json").write_text(text)
    with pytest.raises(UserError, match=f"{message}.*Put back the settings of that run, or delete the file"):
        start(settings(files, copy))
    assert (copy / "sft" / "config.json").read_text() == text


def test_an_evaluation_is_not_held_against_the_checkpoints_of_its_run(files, begun):
    shared = settings(files, begun[0], data__eval_path=str(files / "eval.jsonl"))
    assert not list(run_dir.earlier_problems(checks.evaluation(shared, bridges)))


def test_an_evaluation_takes_the_dtype_that_the_run_beside_the_model_was_trained_in(files, begun, tmp_path):
    config = settings(files, tmp_path / "other")
    assert resuming.settled(config).model.dtype == "float32"
    assert resuming.settled(config, str(begun[0] / "sft" / "model")).model.dtype == "bfloat16"
    assert resuming.settled(settings(files, begun[0])).model.dtype == "bfloat16"
    assert resuming.settled(settings(files, begun[0], model__dtype="float32")).model.dtype == "float32"


def test_an_evaluation_leaves_the_files_of_an_earlier_one(tmp_path, capsys):
    for number in (1, 2):
        pipeline._write_evaluation(pipeline.Evaluation({"number": number}, {}), pathlib.Path(tmp_path), None)
    assert rows(tmp_path / "metrics.jsonl.earlier") == [{"step": 0, "number": 1}]
    assert rows(tmp_path / "metrics.jsonl") == [{"step": 0, "number": 2}]
    assert "is now metrics.jsonl.earlier" in capsys.readouterr().out
