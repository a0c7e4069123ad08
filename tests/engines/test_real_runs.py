"""Whole runs on real servers: a trainer of two processes, a server that is killed in mid-run, and rollouts
that run ahead."""
import json
import os
import re
import signal
import threading
import time

import pytest

import bridges
from bridges.servers.http import Http
from jaxrl_moe.config import resolve
from jaxrl_moe.training import pipeline
from tests.engines import real
from tests.helpers.processes import rows, start, wait

pytestmark = pytest.mark.engines
RECIPE = """
import pathlib
from tests.engines.real import settings

def get_config():
    return settings(pathlib.Path({files!r}), {folder!r}, "vllm", {targets!r}, **{overrides!r})
"""
EXPERTS = ("q_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return real.make_files(tmp_path_factory.mktemp("files"))


def assert_trained_once(folder, steps=3):
    """Every sample of every step, none twice, all drawn from the weights they were to be drawn from."""
    drawn = [(row["step"], row["sequence"], row["sample"]) for row in rows(folder, "trajectories")
             if row["phase"] == "train"]
    assert len(drawn) == len(set(drawn)) == steps * 12
    metrics = [row for row in rows(folder, "metrics") if row["step"]]
    assert [row["step"] for row in metrics] == list(range(1, steps + 1))
    for row in metrics:
        assert abs(row["mismatch/kl"]
                   ) <= 1e-5 and row["sync/probe_error"] <= 1e-5 and row["rollout/staleness_max"] == 0
    return metrics


@pytest.mark.parametrize("targets, kind", [(EXPERTS, "delta"), (("q_proj", "v_proj"), "disk")])
def test_two_processes_on_a_mesh_train_on_a_real_server(files, tmp_path, targets, kind):
    recipe = tmp_path / "recipe.py"
    folder = tmp_path / "run"
    overrides = {"mesh__data": 2, "mesh__tensor": 2, "servers__weight_sync_backend": kind, "train__steps": 2}
    recipe.write_text(
        RECIPE.format(files=str(files), folder=str(folder), targets=targets, overrides=overrides))
    results = wait(start("scripts/train.py", 2, f"--config={recipe}"), 900)
    assert all(code == 0 for code, _, _ in results), "\n".join(err[-3000:] for _, _, err in results)
    assert_trained_once(folder, 2)
    # process 0 alone launched one
    assert [path.name for path in (folder / "servers").glob("*.log")] == ["vllm_0.log"]
    assert not (folder / "servers" / "vllm_0.pid").exists()  # and stopped it


def test_a_server_killed_in_mid_run_costs_no_sample_and_none_is_trained_twice(files, tmp_path, capfd):
    folder = tmp_path / "run"
    config = resolve(
        real.settings(files, folder, "vllm", EXPERTS, servers__count=2, rollout__max_tokens=60,
                      rollout__stop_strings=(), train__steps=4))
    killed = []

    def kill():
        deadline = time.monotonic() + 300
        log = folder / "metrics.jsonl"
        while time.monotonic() < deadline and not (log.exists() and any(
                json.loads(line)["step"] for line in log.read_text().splitlines())):
            time.sleep(0.05)
        killed.append(int((folder / "servers" / "vllm_0.pid").read_text().split()[0]))
        os.killpg(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert pipeline.run_all(config, bridges)
    killer.join()
    said = capfd.readouterr().out
    metrics = assert_trained_once(folder, 4)
    assert min(row["sync/servers"] for row in metrics) == 1, [row["sync/servers"] for row in metrics]
    assert re.search("A server is (taken|left) out", said), said[-2000:]
    for log in (folder / "servers").glob("*.log"):
        for port in re.findall(r"--port (\d+)", log.read_text()):
            assert not Http(f"http://127.0.0.1:{port}").is_up(), "a server outlived the run"


@pytest.mark.parametrize("kind", sorted(real.PYTHON))
def test_rollouts_run_ahead_on_a_real_server_with_nothing_too_old_and_nothing_twice(files, tmp_path, kind):
    folder = tmp_path / "run"
    steps = 5
    bound = 2
    overrides = dict(rollout__max_staleness=bound, rollout__max_tokens=60, rollout__stop_strings=(),
                     algorithm__corrections=("tis",), algorithm__overlong_tokens=60,
                     algorithm__overlong_cushion=60, train__steps=steps)
    assert pipeline.run_all(resolve(real.settings(files, folder, kind, EXPERTS, **overrides)), bridges)
    train = [row for row in rows(folder, "trajectories") if row["phase"] == "train"]
    assert sorted((row["sequence"], row["sample"])
                  for row in train) == [(one, sample) for one in range(3 * steps) for sample in range(4)]
    ages = [row["step"] - 1 - version for row in train for version in row["policy_version"]]
    assert min(ages) >= 0 and 1 <= max(ages) <= bound
    assert all(row["policy_version"] == sorted(row["policy_version"]) for row in train)
    assert all(row["sync/probe_error"] <= 1e-5 for row in rows(folder, "metrics") if row["step"])
