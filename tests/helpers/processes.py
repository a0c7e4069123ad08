"""Scripts run as several processes over loopback, and whole runs compared."""
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
from safetensors.numpy import load_file

from jaxrl_moe.hosts.addresses import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
MESH = {"mesh__data": 2, "mesh__expert": 2}
RECIPE = """
import pathlib
from tests.helpers.tiny_run import settings

def get_config():
    return settings(pathlib.Path({files!r}), {folder!r}, **{overrides!r})
"""
SETTINGS = {
    "lora__dropout": 0.0,
    "lora__targets": ("all-linear",),
    "sft__path": "",
    "data__eval_path": "",
    "eval__every": 0,
    "eval__at_start": False,
    "rollout__max_tokens": 60,
    "algorithm__minibatches": 1,
    "checkpoint__every": 1,
    "train__steps": 2
}


def start(script, count, *options, devices=4, last=()):
    """The script as `count` processes that share so many virtual devices; `last` are options of the last one
    alone."""
    kept = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    flags = " ".join([*kept, f"--xla_force_host_platform_device_count={devices // count}"])
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    place = [f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={count}"]
    return [subprocess.Popen([sys.executable, script, *place, f"--process_id={index}", *options,
                              *(last if index == count - 1 else ())], cwd=ROOT, env=environment, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE) for index in range(count)]


def wait(processes, seconds=300):
    """[(exit code, stdout, stderr)]; whatever happens none is left behind."""
    try:
        outputs = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def train(files, folder, count, last=(), **overrides):
    recipe = folder.with_name(f"{folder.name}.py")
    recipe.write_text(
        RECIPE.format(files=str(files), folder=str(folder), overrides=SETTINGS | MESH | overrides))
    return start("scripts/train.py", count, f"--config={recipe}", last=last)


def finished(processes):
    results = wait(processes)
    assert all(code == 0 for code, _, _ in results), "\n".join(err[-3000:] for _, _, err in results)
    return results


def rows(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def compare(got, expected):
    """Equal completions, and numbers and weights that are equal but for rounding."""
    drawn = [[(row["step"], row["sequence"], row["sample"], row["completion_ids"])
              for row in rows(folder, "trajectories")] for folder in (got, expected)]
    assert drawn[0] == drawn[1] and len(drawn[0]) == 24
    for one, other in zip(rows(got, "metrics"), rows(expected, "metrics"), strict=True):
        names = [name for name in one if name.startswith(("policy/", "reward/", "moe/"))]
        assert one["reward/std"] > 0 and len(names) > 20
        for name in names:
            np.testing.assert_allclose(one[name], other[name], rtol=2e-4, atol=1e-6, err_msg=name)
    for file in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        one = load_file(got / file)
        other = load_file(expected / file)
        assert one.keys() == other.keys()
        for name, array in one.items():
            np.testing.assert_allclose(array, other[name], atol=2e-4, err_msg=name)
