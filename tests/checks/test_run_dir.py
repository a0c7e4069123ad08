"""What is refused before a run spends time: too long a context, adapters without export, changed settings, a
run_dir in use."""
import json
import re

import pytest

import bridges
from jaxrl_moe.checks import run_dir as checks
from jaxrl_moe.checks.start import training
from jaxrl_moe.config import ConfigError, resolve, to_json
from jaxrl_moe.phases import sft_config
from jaxrl_moe.runs.checkpoints.resuming import read_settings
from jaxrl_moe.training import pipeline
from jaxrl_moe.types import UserError
from tests.helpers import tiny_run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_run.make_files(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("changes, message", [
    ({"rollout__max_tokens": 97}, "data.max_prompt_tokens . rollout.max_tokens = 129.*holds 128 "
                                  "tokens.*lower"),
    ({"sft__max_tokens": 200, "sft__steps": 2}, "sft.max_tokens = 200.*holds 128 tokens.*lower "
                                                "sft.max_tokens"),
    ({"lora__targets": ("gate_proj", "down_proj")}, "gate_proj and up_proj.*lora.targets"),
    ({"lora__targets": ("q_prj",)}, "q_prj"),
])
def test_what_the_model_cannot_hold_or_export_is_refused_before_any_training(files, tmp_path, changes,
                                                                             message):
    with pytest.raises(UserError, match=message):
        pipeline.run_all(resolve(tiny_run.settings(files, tmp_path / "run", **changes)), bridges)
    assert not (tmp_path / "run").exists()


def test_an_endpoint_that_nobody_handed_in_is_refused_before_any_training(files, tmp_path):
    with pytest.raises(UserError, match="endpoint.serve = true needs an endpoint.*scripts/train.py"):
        pipeline.run_all(resolve(tiny_run.settings(files, tmp_path / "run", endpoint__serve=True)), bridges)
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_still_to_be_made_is_measured_by_its_scratch_section(files, tmp_path):
    config = resolve(
        tiny_run.settings(files, tmp_path / "run", model__path=str(tmp_path / "new"), scratch__vocab_size=300,
                          scratch__context=50))
    with pytest.raises(ConfigError, match="holds 50 tokens"):
        pipeline.run_all(config, bridges)
    assert not (tmp_path / "new").exists()


def warmed(files, run_dir, **changes):
    return resolve(tiny_run.settings(files, run_dir, **{"sft__steps": 3, "seed": 4} | changes))


@pytest.fixture
def after_sft(files, tmp_path):
    """A run_dir as an SFT phase leaves it, as far as settings go."""
    (tmp_path / "sft" / "model").mkdir(parents=True)
    (tmp_path / "sft" / "config.json").write_text(json.dumps(to_json(sft_config(warmed(files, tmp_path)))))
    return tmp_path


@pytest.mark.parametrize("changes, named", [
    ({
        "sft__learning_rate": 1e-4
    }, "sft.learning_rate .was 0.001, is 0.0001."),
    ({
        "model__path": "another"
    }, "model.path .was"),
    ({
        "scratch__vocab_size": 300,
        "scratch__num_layers": 9
    }, "scratch.num_layers"),
    ({
        "sft__full": False
    }, "lora.rank"),
    ({
        "data__suffix": "!"
    }, "data.suffix"),
])
def test_a_fine_tuned_model_of_other_settings_is_refused(files, after_sft, changes, named):
    with pytest.raises(ConfigError, match=f"with other settings.*{named}.*delete .*sft"):
        checks.warmed_up(warmed(files, after_sft, **changes))


def test_settings_that_fine_tuning_does_not_use_may_change_after_it(files, after_sft):
    free = {
        "rollout__max_tokens": 9,
        "algorithm__loss": "gspo",
        "eval__samples": 2,
        "logging__tensorboard": False,
        "checkpoint__every": 1,
        "train__steps": 1,
        "lora__targets": ("o_proj",),
        "optimizer__learning_rate": 0.5
    }
    assert checks.warmed_up(warmed(files, after_sft, **free))
    assert not checks.warmed_up(warmed(files, after_sft / "new"))


def test_fine_tuned_adapters_that_a_kill_kept_from_their_export_are_exported_by_the_next_start(
        files, after_sft):
    config = warmed(files, after_sft, sft__full=False)
    (after_sft / "sft" / "config.json").write_text(json.dumps(to_json(sft_config(config))))
    assert not checks.warmed_up(config)
    (after_sft / "sft" / "adapter").mkdir()
    assert checks.warmed_up(config)


@pytest.mark.parametrize("text", ['{"seed": 1', "[]"])
def test_a_broken_config_json_is_named(files, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="config.json .*JSON"):
        checks.refuse_other_seed(resolve(tiny_run.settings(files, tmp_path)))
    assert read_settings(tmp_path / "absent.json") == {}


def test_a_broken_config_json_of_the_model_is_named(files, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{")
    with pytest.raises(UserError, match="model/config.json"):
        pipeline.run_all(
            resolve(tiny_run.settings(files, tmp_path / "run", model__path=str(tmp_path / "model"))), bridges)


def test_a_run_dir_that_can_be_no_folder_is_refused_with_what_is_in_the_way(files, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    (tmp_path / "good").symlink_to(tmp_path / "folder")
    for path, message in (("file", "is a file"), ("file/run", "lies under .*file.*, which is a file"),
                          ("link", "link. is a link to nothing"), ("link/run", "link to nothing"),
                          ("good", ""), ("good/run/", ""), ("a b/ c", "")):
        start = training(resolve(tiny_run.settings(files, f"{tmp_path}/{path}")), bridges)
        said = " ".join(map(str, checks.folder_problems(start)))
        assert bool(said) == bool(message) and re.search(message, said), path


def test_whoever_opens_a_run_dir_removes_what_dead_processes_left_of_their_exports(tmp_path):
    for phase in ("", "sft/"):
        for name in (".model.partial-0123456789ab", ".adapter.partial-0123456789ab.old"):
            (tmp_path / f"{phase}{name}").mkdir(parents=True)
    with checks.locked(str(tmp_path)):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "adapter", "sft"]
        assert [path.name for path in (tmp_path / "sft").iterdir()] == ["adapter"]


def test_a_run_dir_belongs_to_one_process_at_a_time(files, tmp_path):
    config = resolve(tiny_run.settings(files, tmp_path / "run"))
    with checks.locked(config.run_dir):
        for start in (pipeline.run_all, pipeline.run_sft):
            with pytest.raises(UserError, match="in use by another process"):
                start(resolve(tiny_run.settings(files, tmp_path / "run", sft__steps=1)), bridges)
    with checks.locked(config.run_dir):
        pass


def test_an_evaluation_of_a_given_model_needs_neither_training_data_nor_the_runs_seed(
        files, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "config.json").write_text('{"seed": 7}')
    monkeypatch.setattr(pipeline, "evaluate",
                        lambda prompts, *args: pipeline.Evaluation({"prompts": len(prompts)}, {}))
    config = resolve(
        tiny_run.settings(files, run_dir, data__path="", model__path=str(tmp_path / "new"),
                          scratch__vocab_size=300, data__generate="word_problems"))
    metrics = pipeline.run_evaluation(config, bridges, str(files / "model"), None, tmp_path / "out")
    assert metrics == {"prompts": 4}
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="seed 7"):
        pipeline.run_evaluation(config, bridges, None, None, tmp_path / "out")


@pytest.mark.parametrize("setting, name", [
    ("data__path", "metrics.jsonl"), ("data__path", "trajectories.jsonl"), ("model__path", ""),
    ("model__path", "model"), ("data__eval_path", "checkpoints/train.jsonl"), ("data__path", "served.jsonl")])
def test_what_a_run_would_write_over_is_not_read_by_it(files, tmp_path, setting, name):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "run")
    for run_dir in (tmp_path / "run", link):
        recipe = tiny_run.settings(files, run_dir, **{setting: str(tmp_path / "run" / name)})
        problems = list(checks.own_problems(training(resolve(recipe), bridges)))
        assert [problem.field for problem in problems] == [setting.replace("__", ".")]
        assert "would be written over" in str(problems[0])


@pytest.mark.parametrize("setting, name", [
    ("data__path", "train.jsonl"), ("data__path", ""), ("data__eval_path", "data/eval.jsonl"),
    ("model__path", "base"), ("model__path", "sft/model")])
def test_what_a_run_does_not_write_may_lie_in_its_folder(files, tmp_path, setting, name):
    recipe = tiny_run.settings(files, tmp_path / "run", **{setting: str(tmp_path / "run" / name)})
    assert not list(checks.own_problems(training(resolve(recipe), bridges)))
