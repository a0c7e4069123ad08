"""The scripts as a user meets them: help, refusals in one paragraph, evaluation and generation."""
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from absl import flags

from jaxrl_moe import options
from jaxrl_moe.types import UserError
from tests.helpers import tiny_run

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_run.make_files(tmp_path_factory.mktemp("files"))


def run(script, *options):
    """A script, or a command of one, as "serve env"."""
    name, *command = script.split()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run([sys.executable, f"scripts/{name}.py", *command, *map(str, options)], cwd=ROOT,
                          env=environment, capture_output=True, text=True)


def recipe(files, tmp_path):
    path = tmp_path / "recipe.py"
    path.write_text(tiny_run.RECIPE.format(files=str(files), run_dir=str(tmp_path / "run"), steps=2))
    return f"--config={path}"


@pytest.mark.parametrize("script, word", [("train", "--config.rollout.group_size=8"), ("sft", "sft.full"),
                                          ("evaluate", "--adapter"), ("generate", "--temperature"),
                                          ("serve", "--max_lora_rank"), ("serve env", "--sessions")])
def test_help_shows_the_command_the_options_and_the_settings(script, word):
    done = run(script, "--help")
    assert done.returncode == 0
    name, _, command = script.partition(" ")
    assert f"python scripts/{name}.py {command}".strip() in done.stdout and word in done.stdout


@pytest.mark.parametrize("options, message", [
    (("--name=textcraf",), "Did you mean 'textcraft'"),
    (("--name=textcraft", "--model=x"), "Unknown command line flag 'model'")])
def test_an_environment_that_cannot_be_served_is_refused_in_one_paragraph(options, message):
    done = run("serve env", *options)
    assert done.returncode == 1 and message in " ".join(done.stderr.split()), done.stderr
    assert done.stderr.count("Error:") == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize("option, message", [
    ("--config.lora.rnk=3", "no setting 'lora.rnk'. Did you mean 'lora.rank'?"),
    ("--config.lora.rank=four", "invalid literal"),
    ("--config.algorithm.loss=gspoo", "algorithm.loss = 'gspoo' is not known. Did you mean 'gspo'?"),
    ("--config.rollout.group_size=1", "every advantage is 0"),
    ("--confg.seed=1", "confg.seed"),
    ("--config.lora.targets=q_prj,o_proj", "match no linear layer"),
    ("--config.model.path=/nowhere/at/all", "/nowhere/at/all"),
    ("stray", "'stray' is not an option"),
])
def test_bad_input_is_one_paragraph_and_exit_code_1(files, tmp_path, option, message):
    done = run("train", recipe(files, tmp_path), option)
    assert done.returncode == 1
    assert message in " ".join(done.stderr.split())
    error = done.stderr[done.stderr.index("Error:"):]
    assert "Traceback" not in done.stderr and "\n\n" not in error.strip()
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_missing_recipe_and_a_misspelt_key_in_one_are_refused(tmp_path):
    assert "'configs/none.py' does not exist" in run("train", "--config=configs/none.py").stderr
    path = tmp_path / "recipe.py"
    path.write_text("from jaxrl_moe.config import base\n\n\ndef get_config():\n    config = base()\n    "
                    "config.lora.rnk = 3\n")
    done = run("train", f"--config={path}")
    assert done.returncode == 1 and "Did you mean" in done.stderr and "Traceback" not in done.stderr


def test_evaluate_prints_and_writes_what_it_measured(files, tmp_path):
    done = run("evaluate", recipe(files, tmp_path), f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "out" / "metrics.jsonl").read_text())
    assert {"eval/pass_at_1", "eval/pass_at_4", "eval/greedy"} <= row.keys()
    assert "eval/greedy" in done.stdout
    assert len((tmp_path / "out" / "trajectories.jsonl").read_text().splitlines()) == 4 * 4 + 4


def test_generate_completes_every_prompt_n_times(files):
    done = run("generate", f"--model={files / 'model'}", "--prompt=1 + 2 = ?", "--prompt=3 + 3 = ?", "--n=2",
               "--temperature=1", "--max_tokens=8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--- 1 + 2 = ?") == done.stdout.count("--- 3 + 3 = ?") == 2
    missing = run("generate", "--model=x")
    assert missing.returncode == 1 and "--prompt is required" in missing.stderr


NUMBERS = [
    ("generate", "temperature", "from 0 to 100"), ("generate", "top_p", "from 1e-06 to 1"),
    ("generate", "min_p", "from 0 to 1"), ("generate", "n", "at least 1"),
    ("generate", "max_tokens", "at least 1"), ("generate", "top_k", "at least 0"),
    ("serve", "port", "from 0 to 65535"), ("serve", "grace", "at least 1"), ("serve", "slots", "at least 1"),
    ("plan", "price", "at least 0"), ("plan", "devices", "from 0 to 100000"),
    ("plan", "judge_minutes", "from 0 to 10000"), ("plan", "judges_at_once", "from 0 to 100000"),
    ("models", "context", "from 2 to"), ("models", "device_gib", "at least 0"),
    ("benchmark", "pairs", "at least 1"), ("benchmark", "steps", "at least 1")]


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "-1", "x" * 10_000, "", str(2**70)])
def test_numbers_of_scripts_are_finite_and_within_bounds(value):
    flag = options.define_number("tried", 0.5, "anything", 0, 100)
    whole = options.define_number("tried_whole", 5, "anything", 1)
    try:
        for name in ("tried", "tried_whole"):
            bound = rf"(?s){name}=.*must be an? .*(from 0 to 100|of at least 1)"
            with pytest.raises(UserError, match=bound) as refused:
                options.parsed(["script", f"--{name}={value}"])
            assert len(str(refused.value)) < 1000
        options.parsed(["script", "--tried=0", "--tried_whole=1"])
        assert (flag.value, whole.value) == (0, 1) and type(whole.value) is int
    finally:
        for name in ("tried", "tried_whole"):
            delattr(flags.FLAGS, name)


@pytest.mark.parametrize("script", sorted({script for script, *_ in NUMBERS}))
def test_help_says_the_bounds_of_a_scripts_numbers(script):
    text = " ".join(run(script, "--help").stdout.split())
    for _, name, bound in (row for row in NUMBERS if row[0] == script):
        assert re.search(rf"--{name}=\S+ [^\[]*\[[^\]]*{re.escape(bound)}", text), name


def test_every_number_of_a_script_has_bounds():
    for path in sorted((ROOT / "scripts").rglob("*.py")):
        assert not re.search(r"flags\.DEFINE_(integer|float)\(", path.read_text()), path
