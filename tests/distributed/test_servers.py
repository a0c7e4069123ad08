"""Rollouts on servers for a trainer on a mesh and of several processes: the same run as on one device, and the same end."""
import pytest
from training.tiny_run import make_files, settings

import bridges
from jaxrl_moe.config import resolve
from jaxrl_moe.training import pipeline
from tests.bridges.policy_server import PolicyServer
from tests.distributed.processes import SETTINGS, compare, finished, rows, train, wait

ON_SERVERS = {"rollout__backend": "vllm", "logging__tensorboard": False}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def server(files):
    server = PolicyServer("vllm", files / "model")
    yield server
    server.close()


def run(files, folder, count, server, **overrides):
    server.given.clear()
    return train(files, folder, count, servers__urls=(server.url,), **ON_SERVERS | overrides)


@pytest.fixture(scope="module")
def alone(files, server, tmp_path_factory):
    """A run on one device of this process, and what the server was asked."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert pipeline.run_all(resolve(settings(files, folder, servers__urls=(server.url,), **SETTINGS | ON_SERVERS)), bridges)
    return folder, sorted(server.given)


def test_two_processes_on_a_server_draw_and_learn_what_one_device_does(files, server, alone, tmp_path):
    folder = tmp_path / "run"
    finished(run(files, folder, 2, server))
    compare(folder, alone[0])
    assert sorted(server.given) == alone[1]  # process 0 alone asks
    for row in rows(folder, "metrics"):
        assert abs(row["mismatch/kl"]) < 1e-9 and row["sync/probe_error"] < 1e-5 and row["sync/servers"] == 1


@pytest.mark.slow
def test_a_server_with_other_weights_ends_all_processes_with_the_reason(files, server, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "loaded", lambda folder: None)
    for code, _, err in wait(run(files, tmp_path / "run", 2, server)):
        assert code == 1 and "disagrees with the policy" in " ".join(err.split())
