"""The checks before a run: one line each, and a failing one is named."""
import contextlib
import dataclasses
import json
import os
import re
import sys
import types

import jax
import numpy as np
import pytest

import bridges
from bridges.engines import verify
from jaxrl_moe.checks import setup
from jaxrl_moe.checks.setup import check_all
from jaxrl_moe.checks.start import Start, training
from jaxrl_moe.config import ConfigError, resolve
from jaxrl_moe.distributed import selftest
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.types import UserError
from tests.helpers import processes, tiny_run
from tests.helpers.fake_task_app import FakeTaskApp
from tests.helpers.policy_server import PolicyServer
from tests.helpers.tiny_models import make_checkpoint
from tests.helpers.tiny_run import make_files, settings


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("files"))


def outcomes(config):
    return {outcome.name: outcome for outcome in check_all(training(config, bridges))}


def test_a_sound_setup_passes_every_check_and_leaves_nothing(files, tmp_path):
    found = outcomes(resolve(settings(files, tmp_path / "run", mesh__tensor=2, mesh__expert=2)))
    assert all(outcome.passed for outcome in found.values()), found
    assert "expert 2 x tensor 2" in found["mesh"].text and "10 run and right" in found["collectives"].text
    assert "24 prompts" in found["data"].text and not list(tmp_path.iterdir())


def test_the_file_that_a_killed_check_tried_the_disk_with_is_removed_and_a_living_ones_stays(files, tmp_path):
    for process in (9999999, os.getppid()):
        (tmp_path / f"{setup.PROBE}{process}").touch()
    (tmp_path / f"{setup.PROBE}by_hand").touch()
    setup._run_dir(training(resolve(settings(files, tmp_path / "run")), bridges))
    assert {path.name for path in tmp_path.iterdir()} == {f"{setup.PROBE}{os.getppid()}",
                                                          f"{setup.PROBE}by_hand"}


def test_a_task_app_is_asked_whether_it_is_ready(files, tmp_path):
    with FakeTaskApp() as app:
        start = training(resolve(settings(files, tmp_path / "run", env__name=f"task_app(url='{app.url}')")),
                         bridges)
        with contextlib.closing(start.task):
            assert setup._task(start).startswith(f"{start.config.env.name} is ready, up to ")
            assert app.calls["/health"] == 1
        app.healthy = False
        start = training(start.config, bridges)
        with contextlib.closing(start.task), pytest.raises(UserError, match="is not healthy"):
            setup._task(start)


def test_both_meshes_are_checked_where_rollout_has_its_own(files, tmp_path):
    found = outcomes(
        resolve(
            settings(files, tmp_path / "run", mesh__expert=2, rollout_mesh__data=2, rollout_mesh__tensor=2)))
    assert all(outcome.passed for outcome in found.values()), found
    assert "training on expert 2, rollout on data 2 x tensor 2 beside it" in found["mesh"].text
    assert "15 run and right" in found["collectives"].text


def test_versions_are_held_against_what_the_package_declares_for_this_python(files, tmp_path, monkeypatch):
    config = resolve(settings(files, tmp_path / "run"))
    elsewhere = ['jax>=99; python_version < "3"', 'flax<0.1; extra == "cuda"', "torch>=99"]
    monkeypatch.setattr("importlib.metadata.requires",
                        lambda name: [*elsewhere, 'flax>=0.12,<0.13; python_version >= "3.11"'])
    assert f"jax {jax.__version__}" in setup._versions(training(config, bridges))
    monkeypatch.setattr("importlib.metadata.requires",
                        lambda name: [*elsewhere, 'jax<0.12,>=99; python_version >= "3.11"', "optax>=99"])
    with pytest.raises(
            UserError,
            match=rf"outside of .*: jax {jax.__version__} \(needs <0.12,>=99\), optax .*\(needs >=99\)"):
        setup._versions(training(config, bridges))


@pytest.mark.parametrize(
    "changes, failing, message",
    [({"mesh__data": 4, "rollout_mesh__data": 5}, ["mesh", "collectives"], "5 needs 9"),
     ({"mesh__data": 8, "train__tokens_per_micro_batch": 500}, ["mesh"], "cannot hold 8 rows of 64 tokens"),
     ({"mesh__data": 8, "train__tokens_per_micro_batch": 512, "sft__steps": 1}, ["mesh"], "raise it to 768"),
     ({"data__path": "nowhere.jsonl"}, ["data"], "nowhere.jsonl"),
     ({"mesh__tensor": 4}, ["mesh"], "num_key_value_heads = 2"),
     ({"algorithm__loss": "grop"}, ["settings"], "'grop'"),
     ({"folder": "/proc/nowhere/run"}, ["run_dir"], "/proc")],
    ids=str)
def test_what_is_wrong_is_named_and_the_other_checks_run(files, tmp_path, changes, failing, message):
    changes = dict(changes)
    found = outcomes(resolve(settings(files, changes.pop("folder", tmp_path / "run"), **changes)))
    assert [name for name, outcome in found.items() if not outcome.passed] == failing
    assert message in found[failing[0]].text


def test_a_missing_shard_is_found_from_headers_alone(files, tmp_path):
    (tmp_path / "model").mkdir()
    for path in (files / "model").iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    config = resolve(settings(files, tmp_path / "run"))
    config = dataclasses.replace(config, model=dataclasses.replace(config.model,
                                                                   path=str(tmp_path / "model")))
    assert "is missing" in outcomes(config)["model"].text


def test_a_collective_that_sums_wrongly_is_found(monkeypatch):
    place = make_placement({"data": 2})
    assert all(gap == 0 for _, _, gap in selftest.check_collectives(place))
    monkeypatch.setattr(selftest.collectives, "total", lambda x, *axes: x)
    assert {name for _, name, gap in selftest.check_collectives(place) if gap > 0} == {"psum"}


def test_a_collective_that_does_not_come_through_is_a_failed_check(files, tmp_path, monkeypatch):
    def broken(place):
        raise jax.errors.JaxRuntimeError("INTERNAL: NCCL operation failed: unhandled system error")
    monkeypatch.setattr(setup, "check_collectives", broken)
    found = outcomes(resolve(settings(files, tmp_path / "run", mesh__data=2)))
    assert [name for name, outcome in found.items() if not outcome.passed
            ] == ["collectives"] and "NCCL" in found["collectives"].text


@pytest.mark.parametrize("own", [True, False])
def test_nothing_else_is_run_where_a_process_has_other_settings(files, tmp_path, monkeypatch, own):
    def refused(config):
        raise ConfigError("This process has other settings than process 0")
    if own:
        monkeypatch.setattr(setup.run_dir, "refuse_other_settings", refused)
    else:  # another process says so
        monkeypatch.setattr(setup.hosts, "smallest", lambda passed: 0)
    found = outcomes(resolve(settings(files, tmp_path / "run")))
    assert list(found) == ["recipe"] and found["recipe"].passed != own


def test_of_servers_the_other_processes_only_report_what_process_0_found(files, tmp_path, monkeypatch):
    def failing(*_):
        raise AssertionError("asked in a process that should wait")
    fake = PolicyServer("vllm", files / "model")
    monkeypatch.setattr(Start, "makes_model", property(failing))
    monkeypatch.setattr(setup.placements, "placement", failing)
    monkeypatch.setattr(setup.hosts, "from_leader", lambda function: "heard")
    config = resolve(settings(files, tmp_path / "run", rollout__backend="vllm", servers__urls=(fake.url,)))
    assert setup._servers(training(config, bridges)) == "heard"
    fake.close()


def servers(files, folder, fake, **changes):
    """The outcome of the check of a fake server, which draws nothing that a policy would."""
    overrides = {
        "rollout__backend": fake.kind,
        "servers__urls": (fake.url,),
        "lora__targets": ("q_proj", "v_proj")
    } | changes
    return {
        outcome.name: outcome
        for outcome in check_all(training(resolve(settings(files, folder, **overrides)), bridges))
    }["servers"]


@pytest.mark.parametrize("kind", ["sglang", "vllm"])
def test_servers_are_asked_what_a_run_would_ask_them(files, tmp_path, kind, monkeypatch):
    fake = PolicyServer(kind, files / "model")
    found = servers(files, tmp_path / "run", fake)
    assert found.passed, found
    assert "computes what" in found.text, found
    assert "as adapters (adapters alone are trained)" in found.text, found
    loads = [path for path, *_ in fake.asked if "update_weights" in path or "lora_adapter" in path]
    assert not loads and not fake.adapters  # nothing of it was changed

    for number, key in enumerate(fake._tensors):  # as if another model was served under that name
        if key.endswith("down_proj.weight"):
            fake._tensors[key] = fake._tensors[key] + np.float32(0.3 * number)
    fake._stale = True
    found = servers(files, tmp_path / "run", fake)
    assert not found.passed and "disagrees with the policy" in found.text
    fake.label = "v7-abcd"  # what an earlier run left
    found = servers(files, tmp_path / "run", fake)
    assert found.passed and "its weights 'v7-abcd' were not probed" in found.text

    fake.fault = "500"
    assert "answered 500" in servers(files, tmp_path / "run", fake).text
    fake.fault = ""
    fake.context = 50
    assert "sequences of at most 50 tokens" in servers(files, tmp_path / "run", fake).text
    fake.context = 128
    fake.up = False
    found = servers(files, tmp_path / "run", fake)
    assert not found.passed and "does not answer" in found.text
    fake.close()


@pytest.mark.parametrize("changes, message", [
    ({"servers__sync_folder": "/no/such/folder"}, "'/no/such/folder', which weights go through"),
    ({"servers__api_key_env": "NO_SUCH_KEY"}, "'NO_SUCH_KEY'"),
    ({"servers__urls": (), "servers__python": "/no/python"}, "servers.python = '/no/python' does not run"),
    ({"servers__urls": (), "servers__python": sys.executable}, "has no vllm.*install_vllm_cpu.sh")])
def test_what_a_run_on_servers_lacks_is_found_before_one_is_asked(files, tmp_path, changes, message):
    config = resolve(
        settings(files, tmp_path / "run", **{
            "rollout__backend": "vllm",
            "servers__urls": ("http://127.0.0.1:9",)
        } | changes))
    found = outcomes(config)["servers"]
    assert not found.passed and re.search(message, found.text), found


def test_too_small_a_ram_disk_for_the_weights_is_said_with_the_numbers(files, tmp_path, monkeypatch):
    monkeypatch.setattr(verify.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=2**20))
    config = resolve(
        settings(files, tmp_path / "run", rollout__backend="vllm", servers__urls=("http://127.0.0.1:9",),
                 lora__rank=0, lora__targets=("all-linear",), lora__dropout=0.0, algorithm__kl_coef=0.0))
    found = outcomes(config)
    assert not found["servers"].passed
    assert "has 0.0 GiB free, and a version takes 0.5" in found["servers"].text
    assert not found["run_dir"].passed and "1 MiB left" in found["run_dir"].text


@pytest.mark.parametrize("damage, message", [("gone", "is missing"), ("cut", "is truncated"),
                                             ("index", "is in none of its files")])
def test_a_sharded_checkpoint_must_be_whole(tmp_path, damage, message):
    folder = tmp_path / "files" / "model"
    make_checkpoint(folder, num_hidden_layers=2, max_position_embeddings=128, max_shard_size="150KB")
    shard = sorted(folder.glob("*.safetensors"))[1]
    if damage == "gone":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-100])
    else:
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        index["weight_map"]["model.layers.7.nothing"] = shard.name
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = outcomes(resolve(settings(tmp_path / "files", tmp_path / "run")))["model"]
    assert not found.passed and f"{shard.name}" in found.text and message in found.text, found


@pytest.mark.parametrize("count, wrong", [(1, "data"), pytest.param(2, "data", marks=pytest.mark.slow),
                                          pytest.param(2, "", marks=pytest.mark.slow)])
def test_the_script_ends_with_1_if_a_check_fails_in_any_process(files, tmp_path, count, wrong):
    (tmp_path / "recipe.py").write_text(
        tiny_run.RECIPE.format(files=str(files), run_dir=str(tmp_path / "run"), steps=1))
    options = [f"--config={tmp_path / 'recipe.py'}", f"--config.mesh.data={2 if count > 1 else 1}"]
    options += ["--config.data.path=nowhere.jsonl"] if wrong else []
    results = processes.wait(processes.start("scripts/verify_setup.py", count, *options, devices=count))
    lines = [line.split(maxsplit=2) for line in results[0][1].splitlines() if not line.startswith("[Gloo]")]
    assert len(lines) == 15 and [name
                                 for verdict, name, _ in lines if verdict == "FAIL"] == [wrong] * bool(wrong)
    for code, _, err in results:
        assert code == bool(wrong) and ("1 of the checks failed" in err) == bool(wrong), err
    assert ("Process 1: FAIL" in results[-1][2]) == (bool(wrong) and count == 2)
