"""The launch files for clouds, read by SkyPilot itself (`make test-sky`), and what they would run."""
import os
import pathlib
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "scripts/launch/skypilot.yaml"
VOLUME = FILE.with_name("skypilot_volume.yaml")
PYTHON = ROOT / ".venv-sky/bin/python"
PARSED = """
import sys
import sky
import yaml
task = sky.Task.from_yaml(sys.argv[1])
print(yaml.safe_dump(task.to_yaml_config()))
"""
MADE = """
import sys
import yaml
from sky.utils import common_utils, schemas
from sky.volumes import volume
settings = yaml.safe_load(open(sys.argv[1]))
common_utils.validate_schema(settings, schemas.get_volume_schema(), "refused: ")
made = volume.Volume.from_yaml_config(settings)
print(type(made).__name__, made.name)
"""
real = pytest.mark.skipif(not PYTHON.exists(), reason="SkyPilot is not installed: make test-sky.")


def with_volume(text):
    """The file as RunPod takes it, as its first lines say."""
    settings = yaml.safe_load(text.replace("# volumes:\n#   /runs", "volumes:\n  /runs"))
    settings.pop("file_mounts")
    return settings


def said(program, path, home):
    variables = os.environ | {"HOME": str(home), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    done = subprocess.run([PYTHON, "-c", program, path], capture_output=True, text=True, check=False,
                          cwd=ROOT, env=variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


@real
@pytest.mark.parametrize("mounts", ["file_mounts", "volumes"])
def test_skypilot_reads_the_task(mounts, tmp_path):
    settings = yaml.safe_load(FILE.read_text()) if mounts == "file_mounts" else with_volume(FILE.read_text())
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(settings))
    task = yaml.safe_load(said(PARSED, tmp_path / "task.yaml", tmp_path))
    assert task["run"] == settings["run"] and task["setup"] == settings["setup"]
    choices = task["resources"]["any_of"]
    assert len(choices) == 3 and all(one["use_spot"] for one in choices)
    assert all(one["job_recovery"]["recover_on_exit_codes"] == [75] for one in choices)
    assert "/runs" in task[mounts]


@real
def test_skypilot_reads_the_volume(tmp_path):
    assert said(MADE, VOLUME, tmp_path).split()[-1] == yaml.safe_load(VOLUME.read_text())["name"]


def test_the_volume_is_that_of_the_task():
    assert with_volume(FILE.read_text())["volumes"] == {"/runs": yaml.safe_load(VOLUME.read_text())["name"]}


@pytest.mark.parametrize("code", [0, 75])
def test_its_command_trains_into_the_mounted_folder_and_hands_the_exit_code_on(code, tmp_path):
    settings = yaml.safe_load(FILE.read_text())
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!{sys.executable}\nimport sys\nprint(sys.argv[1:])\nsys.exit({code})\n")
    python.chmod(0o755)
    variables = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "CONFIG": "configs/quickstart.py",
                 "OPTIONS": "--config.seed=3 --config.train.max_minutes=50"}
    done = subprocess.run(["bash", "-c", settings["run"]], env=variables, capture_output=True, text=True,
                          check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout.strip() == str([
        "-u", "scripts/train.py", "--config=configs/quickstart.py", "--config.run_dir=/runs/quickstart",
        "--config.seed=3", "--config.train.max_minutes=50"])
    assert settings["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
