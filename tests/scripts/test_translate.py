"""Other systems' configurations on our scripts' command lines: printed as recipes, and taken as they are."""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from bridges.dialects import READERS
from jaxrl_moe import cli, recipes
from jaxrl_moe.config import resolve
from jaxrl_moe.types import UserError
from tests.helpers import seed_texts, tiny_models

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKYRL = ["trainer.placement.policy_num_gpus_per_node=1", "trainer.logger=console",
         "trainer.max_prompt_length=32",
         "generator.sampling_params.max_generate_length=32", "trainer.train_batch_size=8",
         "trainer.mini_batch_size=2", *seed_texts.NMOE_OFFLOAD, *seed_texts.NMOE_SYNC,
         *seed_texts.NMOE_BALANCE]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    tiny_models.make_checkpoint(folder / "model", num_hidden_layers=1)
    rows = [{"prompt": f"{n} + 1 = ?", "reward_spec": {"ground_truth": str(n + 1)}} for n in range(8)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(script, *options, **environment):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"} | environment
    return subprocess.run([sys.executable, f"scripts/{script}.py", *map(str, options)], cwd=ROOT,
                          env=environment,
                          capture_output=True, text=True)


def dry_run(*options, **environment):
    done = run("train", *options, "--dry_run", **environment)
    assert done.returncode == 0, done.stderr
    assert "Nothing speaks against it" in done.stdout and "settings; " in done.stdout
    return done.stdout


def test_skyrls_commands_are_taken_by_train(files, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(seed_texts.NMOE_KEY_SETTINGS)
    printed = dry_run(f"--config={path}", f"trainer.policy.model.path={files / 'model'}",
                      f'data.train_data=["{files / "train.jsonl"}"]', *SKYRL,
                      f"trainer.ckpt_path={tmp_path / 'run'}",
                      "--config.lora.rank=0")
    assert "1 steps of 8 prompts x 5 completions, grpo with clipped_surrogate, 4 update(s)" in printed


def test_slimes_flags_are_taken_by_train_with_a_task_of_ours(files, tmp_path):
    words = (seed_texts.SLIME_MODEL + seed_texts.SLIME_TURNS + seed_texts.SLIME_TRAINING).split()
    given = ["--hf-checkpoint", files / "model", "--prompt-data", files / "train.jsonl", "--num-rollout", 3,
             "--rollout-max-response-len", 32, "--rollout-max-prompt-len", 32, "--save", tmp_path / "run"]
    printed = dry_run("slime", *words, *given, "--config.env.name=agent(max_turns=3)",
                      "--config.endpoint.serve=true",
                      "--config.endpoint.port=0")
    assert "3 steps of 4 prompts x 4 completions, grpo with clipped_surrogate, 1 update(s)" in printed


def test_the_users_toml_is_taken_by_train_with_the_task_apps_url(files, tmp_path):
    path = tmp_path / "rl.toml"
    tiny = seed_texts.AGORA_TOML.replace("Qwen/Qwen3-30B-A3B", str(files / "model"))
    path.write_text(tiny + "\n[vllm]\nmax_model_len = 256\n\n[topology]\ngpus_for_vllm = 1\n")
    (tmp_path / ".env").write_text("export ENVIRONMENT_API_KEY=sk_env_s3cret\n")
    printed = dry_run("--type", "rl", "--config", path, "--task-url", "http://localhost:8101", "--env-file",
                      tmp_path / ".env", f"--config.run_dir={tmp_path / 'run'}", "--config.endpoint.port=0")
    assert "12 steps of 8 prompts x 4 completions, grpo with gspo, 1 update(s)" in printed
    assert "s3cret" not in printed


def test_what_nothing_tells_and_what_is_wrong_is_refused_before_a_run(files, tmp_path):
    with pytest.raises(UserError, match="(?s)data.path .* is not given.*--config.env.name=TASK"):
        parse("slime", "--hf-checkpoint", str(files / "model"), "--config.seed=1")
    path = tmp_path / "rl.toml"
    path.write_text(seed_texts.AGORA_TOML + "[lroa]\nr = 16\n")
    with pytest.raises(UserError, match="rl.toml: there is no key 'lroa.r'.* Did you mean 'lora.r'?"):
        parse(f"--config={path}", "--task-url=http://localhost:8101")


def parse(*words):
    return cli.parse(["script", *words], dialects=READERS)


@pytest.fixture(scope="module")
def translate():
    spec = importlib.util.spec_from_file_location("translate", ROOT / "scripts" / "translate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_translate_prints_a_recipe_or_writes_it(translate, tmp_path, capsys):
    path = tmp_path / "rl.toml"
    path.write_text(seed_texts.AGORA_TOML)
    words = ["synth", str(path), "--task-url=http://localhost:8101"]
    translate(words)
    printed = capsys.readouterr().out
    assert "# rollout.episodes_per_batch = 16, rollout.batches_per_step = 2, training.group_s" in printed
    translate([*words, f"--out={tmp_path / 'mine.py'}"])
    assert (tmp_path / "mine.py").read_text() == printed and "--config=" in capsys.readouterr().out
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine.py", "rl.toml"]
    translate(["--help"])
    assert "scripts/translate.py synth FILE.toml" in capsys.readouterr().out
    assert resolve(recipes.settings(str(tmp_path / "mine.py"))).train.steps == 12


@pytest.mark.parametrize("words, message", [
    (("synht", "a.toml"), "Did you mean 'synth'"), (("skyrl", "trainer.sed=1"), "mean 'trainer.seed'"),
    (("synth", "none.toml"), "cannot be read"), (("slime", "--lr", "1", "--out"), "write --out=FILE.py"),
    (("slime", "--lr", "1", "--out=/none/such/x.py"), "does not exist")])
def test_what_cannot_be_translated_is_refused(words, message, translate):
    with pytest.raises(UserError, match=message):
        translate(list(words))
