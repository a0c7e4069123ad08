"""Whole runs on two servers of which one fails, in every way and at every turn: what is trained on is what a
run without faults has."""
import errno
import json
import re

import pytest

import bridges
from bridges.engines.probe import DRAWN
from bridges.servers import buckets
from bridges.servers.http import EngineError
from jaxrl_moe.config import resolve
from jaxrl_moe.training import pipeline
from tests.helpers.fake_server import quickly  # noqa: F401 - used by every test here
from tests.helpers.policy_server import PolicyServer
from tests.helpers.tiny_run import make_files, settings

pytestmark = pytest.mark.slow
# once, while it draws from this version
FAULTS = {0: "500", 1: "truncated", 2: "hang", 3: "slow", 5: "nan", 6: "reset"}
SAID = ("answered 500", "no JSON", "ReadTimeout|had not answered", "RemoteProtocolError|ReadError",
        "log-probs from nan")
BROKEN = 4  # the sync of this version ends half-way, after its first bucket
STEPS = 7


class Faulty(PolicyServer):
    """Fails as FAULTS say, if `failing`, and is sound again after that."""
    failing = False

    def handle(self, request, body):
        self.version = int(found[1]) if (found := re.match(r"v(\d+)-", self.label)) else -1
        super().handle(request, body)

    def _draw(self, request, body):
        probe = DRAWN in (body["sampling_params"].get("max_tokens"),
                          body["sampling_params"].get("max_new_tokens"))
        self.fault = self.faults.pop(self.version, "") if self.failing and not probe else ""
        super()._draw(request, body)

    def _load(self, request, path, body):
        self.loads += 1
        if self.failing and self.broken and self.synced == BROKEN - 1 and self.loads > 1:
            self.load_fault = "500"
            self.broken = False
        super()._load(request, path, body)
        self.load_fault = ""

    @property
    def label(self):
        return self._label

    @label.setter
    def label(self, label):
        self._label = label
        self.loads = 0
        if found := re.match(r"v(\d+)-", label):
            self.synced = int(found[1])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def servers(files):
    made = PolicyServer("sglang", files / "model"), Faulty("sglang", files / "model")
    made[1].faults = dict(FAULTS)
    made[1].broken = True
    made[1].synced = -1
    for server in made:  # compiled before anybody waits for an answer
        for count in (4, DRAWN):
            server.answer([5] * 24, {
                "max_tokens": count,
                "n": 4,
                "temperature": 1.0,
                "seed": 0,
                "stop_token_ids": []
            }, ["v"], "length")
    yield made
    for server in made:
        server.close()


def run(files, folder, servers, steps=STEPS):
    """The run's rows: (step, sequence, sample, tokens, reward) and metrics."""
    config = resolve(
        settings(files, folder, rollout__backend="sglang",
                 servers__urls=tuple(server.url for server in servers), servers__bucket_bytes=30_000,
                 servers__request_timeout=6.0, lora__dropout=0.0, data__eval_path="", eval__every=0,
                 eval__at_start=False, checkpoint__every=1, train__steps=steps, algorithm__minibatches=1,
                 optimizer__warmup_steps=0, logging__tensorboard=False))
    assert pipeline.run_all(config, bridges)
    drawn = [json.loads(line) for line in (folder / "trajectories.jsonl").read_text().splitlines()]
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return sorted((row["step"], row["sequence"], row["sample"], tuple(row["completion_ids"]), row["reward"])
                  for row in drawn), metrics


@pytest.fixture(scope="module")
def sound(files, servers, tmp_path_factory):
    return run(files, tmp_path_factory.mktemp("sound"), servers)


def test_a_server_that_fails_at_every_turn_changes_nothing_that_is_trained_on(
        files, servers, sound, tmp_path, capfd):
    servers[1].failing = True
    rows, metrics = run(files, tmp_path / "run", servers)
    servers[1].failing = False
    said = capfd.readouterr().out
    assert not servers[1].faults and not servers[1].broken  # all happened
    assert len({row[:3] for row in rows}) == len(rows) == STEPS * 12 and rows == sound[0]
    for row in metrics:
        assert abs(row["mismatch/kl"]) < 1e-9 and row["policy/grad_norm"] > 0
    for fault in SAID:
        assert re.search(f"taken out: .*({fault})", said), fault
    assert (f"did not come to the weights of version {BROKEN}: {servers[1].url}/update_weights_from_disk "
            "answered 500") in said
    assert max(row["sync/retried_samples"] for row in metrics) == 4
    # it is back in the end
    assert min(row["sync/servers"] for row in metrics) == 1 and metrics[-1]["sync/servers"] == 2


def test_a_disk_that_fills_up_during_a_sync_stops_the_run_and_it_goes_on(files, servers, sound, tmp_path,
                                                                         monkeypatch):
    create = buckets.create
    calls = []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) > 40:  # the first weights of both servers are there
            raise OSError(errno.ENOSPC, "No space left on device")
        return create(*arguments)
    monkeypatch.setattr(buckets, "create", full)
    with pytest.raises(EngineError, match="No space left on device.*servers.bucket_bytes"):
        run(files, tmp_path / "run", servers, steps=4)
    monkeypatch.undo()
    rows, _ = run(files, tmp_path / "run", servers, steps=4)
    assert rows == [row for row in sound[0] if row[0] <= 4]
