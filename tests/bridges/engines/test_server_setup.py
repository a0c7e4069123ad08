"""What a run on servers is put together from: the kind of sync, launched processes, folders of weights, and
the settings."""
import dataclasses
import os
import re
import signal
import socket
import time

import numpy as np
import pytest
from flax import nnx

import bridges
from bridges import __main__ as cli
from bridges.compare.diff import diff
from bridges.engines.sync import WeightWriter, choose
from bridges.hf import tensor_files
from bridges.servers.http import EngineError
from bridges.servers.launch import LaunchPlan, Process
from bridges.servers.router import without_routers
from jaxrl_moe.checks.sections.servers import server_problems
from jaxrl_moe.config import Config, RolloutSection, ServersSection, resolve
from jaxrl_moe.model.config import LoraConfig
from tests.helpers.fake_server import FakeServer
from tests.helpers.parity import randomise_adapters

ALL = ("q_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def adapted(checkpoint):
    """load(targets): the tiny model with adapters that matter; () for none."""
    def load(targets):
        model = bridges.load_model(checkpoint, lora=LoraConfig(4, 8.0, targets=targets) if targets else None)
        if targets:
            randomise_adapters(model)
        return model
    return load


def settings(**servers):
    return Config(rollout=RolloutSection(backend="vllm"), servers=ServersSection(**({
        "urls": ("http://localhost:1",)
    } | servers)))


@pytest.mark.parametrize("targets, backend, wanted, kind, reason", [
    (("q_proj", "v_proj"), "vllm", "auto", "adapter", "adapters alone are trained"),
    (("q_proj", "v_proj"), "sglang", "auto", "adapter", "adapters alone are trained"),
    (("q_proj", "v_proj"), "sglang", "disk", "disk", "= 'disk'"),
    (ALL, "vllm", "auto", "delta", "down_proj, gate_proj, up_proj.*what has no adapter stays"),
    (ALL, "vllm", "adapter", "adapter", "= 'adapter'"),
    (ALL, "vllm", "distributed", "distributed", "= 'distributed'"),
    (ALL, "sglang", "auto", "delta", "SGLang rejects adapters on experts"),
    ((), "vllm", "auto", "stream", "all weights are trained.*changes nearly every tensor")])
def test_the_kind_of_sync_is_chosen_with_a_reason(adapted, targets, backend, wanted, kind, reason):
    config = settings(weight_sync_backend=wanted)
    config = dataclasses.replace(config, rollout=dataclasses.replace(config.rollout, backend=backend))
    found = choose(config, adapted(targets))
    assert found[0] == kind and re.search(reason, found[1])


def test_adapters_on_experts_are_not_forced_on_sglang(adapted):
    config = dataclasses.replace(settings(weight_sync_backend="adapter"),
                                 rollout=RolloutSection(backend="sglang"))
    with pytest.raises(EngineError, match="SGLang rejects adapters on experts"):
        choose(config, adapted(ALL))


@pytest.mark.parametrize("adapter", [True, False])
def test_a_version_on_disk_is_the_policy_and_goes_with_the_writer(adapted, checkpoint, tmp_path, adapter):
    model = adapted(ALL)
    writer = WeightWriter(model, str(checkpoint), "adapter" if adapter else "disk", str(tmp_path))
    weights = writer(nnx.state(model), 7)
    other = writer(nnx.state(model), 7)
    assert weights.label.startswith("v7-") and weights.label != other.label and weights.adapter is adapter
    assert weights.bytes == sum(entry.stat().st_size for entry in os.scandir(weights.folder))
    if adapter:
        back = bridges.load_model(checkpoint, lora=bridges.read_lora(weights.folder))
        bridges.import_adapter(back, weights.folder)
        assert nnx.to_flat_state(nnx.state(back)) and _same(back, model)
    else:
        bridges.export_model(model, tmp_path / "merged", source=checkpoint)
        assert diff(weights.folder, tmp_path / "merged").empty
    writer.remove(weights)
    assert not os.path.exists(weights.folder) and os.path.exists(other.folder)
    writer.close()
    assert not os.path.exists(other.folder)


def _same(one, other):
    pairs = zip(nnx.to_flat_state(nnx.state(one)), nnx.to_flat_state(nnx.state(other)), strict=True)
    return all(a[0] == b[0] and np.array_equal(a[1][...], b[1][...]) for a, b in pairs)


def test_a_full_disk_during_a_sync_is_said_and_leaves_nothing(adapted, checkpoint, tmp_path, monkeypatch):
    writer = WeightWriter(adapted(()), str(checkpoint), "disk", str(tmp_path))

    def full(*arguments):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(tensor_files.os, "posix_fallocate", full)
    with pytest.raises(bridges.BridgeError, match="The disk is full"):
        writer(nnx.state(adapted(())), 1)
    assert not any(list(folder.iterdir()) for folder in tmp_path.iterdir())


def test_weights_that_a_killed_run_left_in_the_ram_disk_are_removed_and_others_are_not(
        adapted, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("bridges.engines.sync.RAM_DISK", tmp_path)
    killed = 4194305  # above Linux's highest process number
    host = socket.gethostname()
    for name in (f"policy-{killed}-{host}-x", f"policy-{os.getpid()}-{host}-x", f"policy-{killed}-other-x",
                 f"policy-notes-{host}-x"):
        (tmp_path / name).mkdir()
    writers = [WeightWriter(adapted(()), str(checkpoint), "disk", folder) for folder in ("", str(tmp_path))]
    assert not (tmp_path / f"policy-{killed}-{host}-x").exists() and len(list(
        tmp_path.iterdir())) == 3 + len(writers)
    for writer in writers:
        writer.close()


def test_a_folder_for_weights_that_cannot_be_made_is_named_with_its_setting(adapted, checkpoint):
    with pytest.raises(EngineError, match="servers.sync_folder"):
        WeightWriter(adapted(()), str(checkpoint), "disk", "/no/such/folder")


def script(folder, body):
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def written_number(path):
    while not path.exists() or not path.read_text():
        time.sleep(0.02)
    return int(path.read_text())


def assert_ends(pid):
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(pid, 0)
            time.sleep(0.02)


def plan(python, **fields):
    return LaunchPlan("vllm", python, "/model", "float32", 128, **fields)


def test_a_server_that_ends_while_it_starts_is_reported_with_the_end_of_its_log(tmp_path):
    process = Process(plan(script(tmp_path, "echo no such device; exit 3")), tmp_path / "logs" / "server.log")
    process.start()
    with pytest.raises(EngineError, match="(?s)ended while it started.*server.log.*no such device"):
        process.wait(lambda: False, 20)
    assert "--logprobs-mode processed_logprobs" in (tmp_path / "logs" / "server.log").read_text()


def test_a_server_that_never_comes_up_is_stopped_with_all_that_it_started(tmp_path):
    process = Process(plan(script(tmp_path, f"trap '' TERM; sleep 60 & echo $! > {tmp_path}/child; wait; "
                                            "sleep 60")), tmp_path / "log")
    process.start()
    child = written_number(tmp_path / "child")
    with (pytest.raises(EngineError, match="not healthy within servers.start_timeout = 0.2 seconds"),
          pytest.MonkeyPatch.context() as patch):
        patch.setattr("bridges.servers.launch.STOP_SECONDS", 0.5)
        process.wait(lambda: False, 0.2)
    assert not process.running
    assert_ends(child)


def test_a_server_is_started_anew_on_its_port_after_it_was_killed_and_its_workers_are_ended(tmp_path):
    process = Process(plan(script(tmp_path, f"sleep 60 & echo $! > {tmp_path}/worker; wait"),
                           flags="--max-num-seqs 4"),
                      tmp_path / "log", gpus="2,3")
    process.start()
    first = process.pid
    worker = written_number(tmp_path / "worker")
    os.kill(first, signal.SIGKILL)  # the leader alone, as where it runs out of memory
    while process.running:
        time.sleep(0.02)
    os.kill(worker, 0)
    process.start()
    assert_ends(worker)
    assert process.running and process.pid != first and (tmp_path / "log").read_text().count(
        f"--port {process.port} --max-num-seqs 4") == 2
    process.stop()
    assert not process.running


def test_a_server_that_a_killed_run_left_behind_is_ended_by_the_next(tmp_path, monkeypatch):
    # it stays a zombie until this process looks for it
    monkeypatch.setattr("bridges.servers.launch.STOP_SECONDS", 0.2)
    python = script(tmp_path, f"touch {tmp_path}/started; sleep 60")
    left, following = (Process(plan(python), tmp_path / "server.log") for _ in range(2))
    left.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.02)
    following.start()
    assert left._process.wait(10) == -signal.SIGKILL and following.running
    following.stop()
    assert not (tmp_path / "server.pid").exists()


def test_an_interpreter_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EngineError, match="servers.python = '/no/python'"):
        Process(plan("/no/python"), tmp_path / "log").start()


def test_launched_servers_get_what_their_sync_needs():
    vllm = plan("python", lora_rank=5, lora_targets=["q_proj", "v_proj"])
    assert "--enable-lora --max-lora-rank 8" in " ".join(
        vllm.command(80)) and vllm.environment("1")["CUDA_VISIBLE_DEVICES"] == "1"
    assert vllm.environment("")["JAXRL_LORA_ON_ATTENTION_ONLY"] == "1" and vllm.environment(
        "")["VLLM_SERVER_DEV_MODE"] == "1"
    assert "JAXRL_LORA_ON_ATTENTION_ONLY" not in plan("python", lora_rank=4,
                                                      lora_targets=list(ALL)).environment("")
    sglang = dataclasses.replace(vllm, kind="sglang")
    # or it would refuse the context that YaRN gives a model whose max_position_embeddings was left
    assert sglang.environment("")["SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"] == "1"
    assert "--max-lora-rank 5 --max-loras-per-batch 2 --lora-target-modules q_proj v_proj" in " ".join(
        sglang.command(80))
    assert "--enable-lora" not in plan("python").command(80)


@pytest.mark.parametrize(
    "config, message",
    [(Config(servers=ServersSection(count=2)),
      "servers.count = 2 has no effect under rollout.backend = 'jax'"),
     (settings(urls=()), "needs servers: give servers.urls, or servers.python.*install_vllm_cpu.sh"),
     (settings(python="python"), "servers.python = 'python' is for servers that the run launches"),
     (settings(urls=(), python="p", gpus="0;1", count=3), "is for 2 servers and servers.count = 3"),
     (settings(urls=("localhost:80",)), "no URL of a server"),
     (settings(urls=("http://other:80",)), "another machine.*servers.sync_folder"),
     (settings(urls=("http://localhost:1", "http://localhost:1")), "a server twice"),
     (settings(in_flight="abort"),
      "servers.in_flight = 'abort' has no effect with rollout.max_staleness = 0"),
     (settings(in_flight="abort", weight_sync_backend="adapter"), "which leaves requests their own adapter"),
     (settings(bucket_bytes=5, weight_sync_backend="disk"),
      "servers.bucket_bytes = 5 .*which sends no buckets"),
     (settings(sync_folder="/s", weight_sync_backend="distributed"),
      "servers.sync_folder = '/s' has no effect"),
     (dataclasses.replace(settings(), rollout=RolloutSection(backend="vllm", top_p=0.9)),
      "do not go with rollout.backend = 'vllm'"),
     (dataclasses.replace(settings(), moe=dataclasses.replace(Config().moe, replay="r3")),
      "moe.replay = 'r3'"),
     (dataclasses.replace(settings(weight_sync_backend="adapter"),
                          lora=dataclasses.replace(Config().lora, rank=0)),
      "lora.rank = 0"),
     (dataclasses.replace(settings(weight_sync_backend="adapter"),
                          moe=dataclasses.replace(Config().moe, router="train")),
      "routers")])
def test_settings_of_servers_that_contradict_each_other_are_refused(config, message):
    assert any(re.search(message, str(problem))
               for problem in server_problems(config)), list(server_problems(config))


def test_sound_settings_of_servers_are_not_refused():
    assert not list(server_problems(settings())) and not list(server_problems(Config()))
    assert not list(server_problems(settings(urls=(), python="python", gpus="0;1")))
    assert not list(server_problems(settings(urls=("http://other:80",), sync_folder="/shared")))
    assert not list(server_problems(settings(urls=("http://other:80",), weight_sync_backend="distributed")))
    assert not list(
        server_problems(
            dataclasses.replace(settings(in_flight="abort"), rollout=RolloutSection(
                backend="vllm", max_staleness=1))))


def test_diff_names_what_two_folders_differ_in(checkpoint, tmp_path, capsys):
    model = bridges.load_model(checkpoint)
    model.norm.weight.set_value(model.norm.weight[...].at[3].add(0.5))
    bridges.export_model(model, tmp_path / "changed", source=checkpoint)
    bridges.export_model(model, tmp_path / "halved", source=checkpoint, dtype="bfloat16")
    assert cli.main(["diff", str(checkpoint), str(checkpoint)]) == 0
    assert cli.main(["diff", str(checkpoint), str(tmp_path / "changed")]) == 1
    out = capsys.readouterr().out
    assert "model.norm.weight: max |difference| 5.000e-01" in out
    assert "differ in their numbers" in out
    assert "0 differ" in out
    found = diff(checkpoint, tmp_path / "halved")
    assert found.dtypes["model.norm.weight"] == ("F32", "BF16") and not found.shapes
    (tmp_path / "empty").mkdir()
    assert cli.main(["diff", str(checkpoint), str(tmp_path / "empty")]) == 1
    assert "holds no *.safetensors" in capsys.readouterr().err


def test_push_refuses_a_server_that_draws_something_else_and_flags_that_do_nothing(checkpoint, capsys):
    fake = FakeServer("sglang")
    assert cli.main(["push", fake.url, str(checkpoint), "--engine", "sglang"]) == 1
    assert "disagrees with the policy" in capsys.readouterr().err and fake.label.startswith("v0-")
    assert cli.main(["push", fake.url, str(checkpoint), "--engine", "sglang", "--merge"]) == 1
    assert "--merge has no effect without --adapter" in capsys.readouterr().err
    fake.close()
    assert cli.main(["push", "http://127.0.0.1:9", str(checkpoint), "--engine", "vllm"]) == 1
    assert "Is a vllm server running there?" in capsys.readouterr().err


def test_the_servers_behind_a_router_take_its_place(fakes):
    router, *servers = (fakes("sglang") for _ in range(4))
    router.workers = [(server.url, kind) for server, kind in zip(servers, ("regular", "regular", "prefill"))]

    def named(**section):
        return resolve({"rollout": {"backend": "sglang"}, "servers": section})
    config = named(urls=(router.url, servers[2].url))
    assert without_routers(config, "").servers.urls == tuple(server.url for server in servers)
    assert without_routers(plain := named(urls=(servers[0].url, "http://127.0.0.1:9")), "") is plain
    router.workers = [("http://elsewhere:30000", "regular")]
    with pytest.raises(EngineError, match="http://elsewhere:30000.*servers.sync_folder"):
        without_routers(named(urls=(router.url,)), "")
    with pytest.raises(EngineError, match="names a server twice"):
        without_routers(named(urls=(router.url, "http://elsewhere:30000"), sync_folder="/shared"), "")
    router.workers = []
    with pytest.raises(EngineError, match="a router that knows no server.*--worker-urls"):
        without_routers(named(urls=(router.url,)), "key")
