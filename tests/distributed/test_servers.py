"""Rollouts on servers for a trainer on a mesh and of several processes: the same run as on one device, and
the same end."""
import json

import numpy as np
import pytest

import bridges
from jaxrl_moe.config import resolve
from jaxrl_moe.training import pipeline
from tests.helpers.policy_server import PolicyServer
from tests.helpers.processes import SETTINGS, compare, finished, rows, start, train, wait
from tests.helpers.tiny_models import make_checkpoint
from tests.helpers.tiny_run import make_files, settings

ON_SERVERS = {"rollout__backend": "vllm", "logging__tensorboard": False}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def server(files):
    server = PolicyServer("vllm", files / "model")
    yield server
    server.close()


@pytest.mark.parametrize("count, kind, mesh", [
    pytest.param(1, "delta", {
        "expert": 2,
        "tensor": 2
    }, marks=pytest.mark.slow), (2, "delta", {
        "data": 2,
        "tensor": 2
    }),
    pytest.param(2, "disk", {
        "fsdp": 2,
        "context": 2
    }, marks=pytest.mark.slow)
])
def test_weights_on_a_mesh_reach_a_server_as_those_of_one_device_do(odd, tmp_path, count, kind, mesh):
    files, server, expected = odd
    finished(
        start("tests/distributed/servers_case.py", count, f"--files={files}", f"--url={server.url}",
              f"--kind={kind}", f"--mesh={json.dumps(mesh)}", f"--output={tmp_path / 'drawn'}"))
    drawn = json.loads((tmp_path / "drawn").read_text())
    for one, other in zip(drawn, expected, strict=True):
        assert one["ids"] == other["ids"] and one["stats"]["tokens"] == other["stats"]["tokens"]
        np.testing.assert_allclose(np.concatenate(sum(one["logprobs"], [])),
                                   np.concatenate(sum(other["logprobs"], [])), atol=1e-5)
        assert one["took"]["sync/probe_error"] < 1e-5 and one["took"]["sync/servers"] == 1
    assert drawn[0]["ids"] != drawn[1]["ids"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """(files, server, what is drawn on one device) of a model whose vocabulary no mesh divides."""
    files = make_files(tmp_path_factory.mktemp("odd"))
    make_checkpoint(files / "model", num_hidden_layers=2, max_position_embeddings=128, vocab_size=321)
    server = PolicyServer("vllm", files / "model")
    output = files / "drawn"
    finished(
        start("tests/distributed/servers_case.py", 1, f"--files={files}", f"--url={server.url}",
              f"--output={output}", devices=1))
    yield files, server, json.loads(output.read_text())
    server.close()


def run(files, folder, count, server, **overrides):
    server.given.clear()
    return train(files, folder, count, servers__urls=(server.url,), **ON_SERVERS | overrides)


@pytest.fixture(scope="module")
def alone(files, server, tmp_path_factory):
    """A run on one device of this process, and what the server was asked."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert pipeline.run_all(
        resolve(settings(files, folder, servers__urls=(server.url,), **SETTINGS | ON_SERVERS)), bridges)
    return folder, sorted(server.given)


@pytest.mark.slow
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
