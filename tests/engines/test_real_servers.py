"""Against real vLLM and SGLang servers on this machine's CPU, in float32; see scripts/engines. About a minute
each."""
import concurrent.futures
import dataclasses
import functools
import json
import os
import signal
import threading
import time

import jax
import numpy as np
import pytest
from flax import nnx

import bridges
from bridges import __main__ as cli
from bridges.engines.assembly import KINDS
from bridges.engines.probe import Probe
from bridges.servers.http import EngineError, Http, Unavailable
from bridges.servers.receiver import Weights
from jaxrl_moe.config import resolve
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.training import pipeline
from jaxrl_moe.training.assembly import make_engine as in_process
from jaxrl_moe.types import Request, SamplingParams
from tests.engines import real
from tests.helpers.close import assert_close
from tests.helpers.parity import randomise_adapters
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.engines
EXPERTS = ("q_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return real.make_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module", params=sorted(KINDS))
def server(request, files, tmp_path_factory):
    """(kind, URL) of a server that this module's tests share."""
    process = real.start(request.param, files, tmp_path_factory.mktemp("log"))
    yield request.param, process.url
    process.stop()


def over(files, folder, kind, url, **overrides):
    """The configuration of a run on a server that is there already."""
    return resolve(
        real.settings(files, folder, kind, EXPERTS, servers__urls=(url,), servers__python="",
                      servers__flags="", **overrides))


def policy(config):
    model = bridges.load_model(config.model.path, lora=LoraConfig(4, 8.0, targets=config.lora.targets))
    randomise_adapters(model, std=0.2)
    return model


def requests(count, **params):
    prompts = np.random.default_rng(0).integers(0, 320, (count, 10)).astype(np.int32)
    return [Request(ids, SamplingParams(12, **params), number) for number, ids in enumerate(prompts)]


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][1:]


def test_a_server_draws_what_the_engine_in_process_does(server, files, tmp_path):
    config = over(files, tmp_path, *server)
    model = policy(config)
    tokenizer = load_tokenizer(config.model.path)
    ours = in_process(config, model, tokenizer)
    theirs = bridges.make_engine(config, model, tokenizer)
    try:
        theirs.publish(nnx.state(model), 3)
        ours.publish(nnx.state(model), 3)
        asked = requests(6, temperature=0.0, return_routed_experts=server[0] == "sglang")
        for mine, other in zip(ours.generate(asked), theirs.generate(asked), strict=True):
            if server[0] == "sglang":
                assert np.array_equal(np.sort(mine[0].expert_ids), np.sort(other[0].expert_ids))
            assert mine[0].ids.tolist() == other[0].ids.tolist(
            ) and mine[0].finish_reason == other[0].finish_reason
            assert_close(other[0].logprobs, mine[0].logprobs, 2e-5)
        [drawn] = theirs.generate(requests(1, temperature=1.7, n=8, stop_ids=tuple(range(3, 60))))
        assert len({completion.ids.tobytes() for completion in drawn}) > 4
        for one in drawn:
            assert (one.finish_reason == "stop") == (2 <= one.ids[-1] < 60) and not np.isin(
                one.ids[:-1], range(2, 60)).any()
            assert one.policy_version.tolist() == [3] * len(one.ids)
        with pytest.raises(Exception, match="vocabulary"):
            theirs.generate([Request(np.array([1, 9999]), SamplingParams(4), 0)])
    finally:
        theirs.close()


class Swapped:
    """A writer that writes other weights than it is given."""

    def __init__(self, writer, params):
        self._writer = writer
        self._params = params

    def __call__(self, params, version):
        return self._writer(self._params, version)

    def remove(self, weights):
        self._writer.remove(weights)


def test_a_wrong_sync_is_caught_by_the_probe_and_a_right_one_mends_it(server, files, tmp_path):
    config = over(files, tmp_path, *server)
    model = policy(config)
    engine = bridges.make_engine(config, model, load_tokenizer(config.model.path))
    right = nnx.state(model)
    wrong = jax.tree.map(lambda array: array, right)
    for path, variable in nnx.to_flat_state(wrong):
        if path[-2:] == ("down_proj", "lora_b"):  # one expert of one layer
            variable.set_value(variable[...].at[1, 2].set(0.0))
    try:
        write = engine._writer
        engine._writer = Swapped(write, wrong)
        with pytest.raises(EngineError, match="disagrees with the policy of version 1"):
            engine.publish(right, 1)
        engine._writer = write
        assert engine.publish(right, 2)["sync/probe_error"] < 1e-5
    finally:
        engine.close()


@pytest.mark.parametrize("backend", ["stream", "distributed"])
def test_push_brings_a_server_to_an_adapter_merged_in_and_proves_it(server, backend, files, tmp_path, capsys):
    kind, url = server
    config = over(files, tmp_path, kind, url)
    bridges.export_adapter(policy(config), tmp_path / "adapter", config.model.path)
    command = [
        "push", url, config.model.path, "--engine", kind, "--adapter",
        str(tmp_path / "adapter"), "--merge", "--name", "seventh", "--backend", backend
    ]
    assert cli.main(command) == 0
    assert "as version 'seventh'" in capsys.readouterr().out
    model = bridges.load_model(config.model.path)
    with pytest.raises(EngineError, match="disagrees"):  # it did change the server
        Probe(model, 128)(KINDS[kind](Http(url), model.config), nnx.state(model))


def test_vllm_takes_the_names_of_our_adapters_on_experts(files, tmp_path):
    process = real.start("vllm", files, tmp_path, "--enable-lora --max-lora-rank 8")
    try:
        config = over(files, tmp_path / "run", "vllm", process.url)
        bridges.export_adapter(policy(config), tmp_path / "adapter", config.model.path)
        server = KINDS["vllm"](Http(process.url), bridges.model_config(config.model.path))
        server.load(Weights("ours", 1, str(tmp_path / "adapter"), adapter=True))
        file = tmp_path / "adapter" / "adapter_model.safetensors"
        # as long, and unknown
        file.write_bytes(file.read_bytes().replace(b"experts.0.gate_proj", b"experts.0.gate_prax"))
        with pytest.raises((EngineError, Unavailable), match="gate_prax"):
            server.load(Weights("wrong", 2, str(tmp_path / "adapter"), adapter=True))
    finally:
        process.stop()


@pytest.mark.parametrize("backend", ["disk", "stream", "delta", "distributed"])
def test_grpo_with_experts_merged_into_every_sync_stays_on_policy(server, backend, files, tmp_path):
    buckets = {} if backend == "disk" else {"servers__bucket_bytes": 100_000}
    config = over(files, tmp_path / "run", *server, servers__weight_sync_backend=backend, **buckets)
    assert pipeline.run_all(config, bridges)
    assert_on_policy(tmp_path / "run",
                     **{"most_bytes": 400_000} if backend == "delta" else {"least_bytes": 400_000})


@pytest.mark.parametrize("in_flight, backend", [("resume", "delta"), ("abort", "stream")])
def test_tokens_in_flight_are_drawn_from_the_weights_that_they_are_labelled_with(
        server, in_flight, backend, files, tmp_path):
    config = over(files, tmp_path, *server, servers__weight_sync_backend=backend,
                  servers__in_flight=in_flight, rollout__max_tokens=100, data__max_prompt_tokens=28)
    model = policy(config)
    versions = {}
    engine = bridges.make_engine(config, model, load_tokenizer(config.model.path))

    def publish(version):
        randomise_adapters(model, std=0.1 + 0.1 * version)
        versions[version] = jax.tree.map(lambda array: array, nnx.state(model))  # a state follows its model
        assert engine.publish(versions[version], version)["sync/probe_error"] < 1e-5
    try:
        publish(1)
        asked = [dataclasses.replace(one, params=SamplingParams(100, 0.8, n=2)) for one in requests(24)]
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            drawn = threads.submit(engine.generate, asked)
            for version in (2, 3):
                wait_until(lambda: engine._pool.members[0].samples > 0)
                time.sleep(0.2)
                publish(version)
        rows = [(request.ids, completion) for request, completions in zip(asked, drawn.result())
                for completion in completions]
        assert len(rows) == 48 and engine.stats()["retried_samples"] == 0
        assert set(np.concatenate([completion.policy_version for _, completion in rows])) >= {1, 2}
        for ids, completion in rows:
            assert len(completion.ids) == 100 or completion.finish_reason == "stop"
            assert completion.policy_version.tolist() == sorted(completion.policy_version)
            ours = {
                version: score(model, params, ids, completion.ids, 0.8)
                for version, params in versions.items()
            }
            expected = [ours[version][place] for place, version in enumerate(completion.policy_version)]
            assert_close(completion.logprobs, np.array(expected), 1e-4)
    finally:
        engine.close()


def score(model, params, prompt, drawn, temperature):
    """Log-probs of the drawn tokens, each after all that is before it, under these weights."""
    tokens = np.concatenate([prompt, drawn])
    padded = np.zeros((1, 112), np.int32)
    padded[0, :len(tokens)] = tokens
    found = np.asarray(_logits(nnx.split(model)[0], params,
                               padded))[0, len(prompt) - 1:len(tokens) - 1] / temperature
    return np.take_along_axis(found - np.log(np.exp(found).sum(-1, keepdims=True)), drawn[:, None], -1)[:, 0]


@functools.partial(jax.jit, static_argnums=0)
def _logits(graphdef, params, tokens):
    model = nnx.merge(graphdef, params)
    positions = jax.numpy.arange(tokens.shape[1])[None]
    hidden, _ = model(tokens, Pass(positions, jax.numpy.ones_like(positions)))
    with jax.default_matmul_precision("highest"):
        return model.head_DV().matmul(hidden)


@pytest.mark.parametrize("backend", ["stream", "distributed"])
def test_a_sync_that_ends_half_way_is_mended_by_the_next_whole_one(server, backend, files, tmp_path):
    config = over(files, tmp_path, *server, servers__weight_sync_backend=backend,
                  servers__bucket_bytes=100_000, servers__wait=0.0)
    model = policy(config)
    engine = bridges.make_engine(config, model, load_tokenizer(config.model.path))
    write = engine._writer
    right = nnx.state(model)

    def broken(params, version):
        weights = write(params, version)

        def walk(held):
            for number, one in enumerate(weights.walk(held)):
                # in the first layer: some of its arrays are replaced, some wait for the rest
                if number == 12:
                    raise Unavailable("the network is gone")
                yield one
        return dataclasses.replace(weights, walk=walk)
    broken.remove = write.remove
    broken.close = write.close
    try:
        engine.publish(right, 1)
        engine._writer = broken
        randomise_adapters(model, std=0.3)
        moved = nnx.state(model)
        with pytest.raises(Unavailable, match="the network is gone"):
            engine.publish(moved, 2)
        left = engine._pool.members[0].server
        assert left.label().startswith("unfinished-") and not engine._pool.live
        # others' requests do not kill it
        assert len(left.draw([5, 6, 7], SamplingParams(4), weights=None, seed=0, stop_ids=())) == 1
        engine._writer = write
        assert engine.publish(moved, 3)["sync/probe_error"] < 1e-5
        assert len(engine.generate(requests(2))) == 2
    finally:
        engine.close()


def test_grpo_replays_the_routes_of_sglang(server, files, tmp_path):
    if server[0] == "vllm":
        pytest.skip("vLLM returns routes on GPUs only")
    assert pipeline.run_all(over(files, tmp_path / "run", *server, moe__replay="r3"), bridges)
    assert_on_policy(tmp_path / "run")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_grpo_with_attention_adapters_on_a_launched_server_stays_on_policy(kind, files, tmp_path):
    config = resolve(real.settings(files, tmp_path / "run", kind, servers__weight_sync_backend="adapter"))
    assert pipeline.run_all(config, bridges)
    assert_on_policy(tmp_path / "run", most_bytes=100_000)
    log = (tmp_path / "run" / "servers" / f"{kind}_0.log").read_text()
    port = log.split("--port ")[1].split()[0]
    assert not Http(f"http://127.0.0.1:{port}").is_up(), "the server outlived the run"


def assert_on_policy(folder, least_bytes=0, most_bytes=10**9):
    rows = metrics(folder)
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert abs(row["mismatch/kl"]) <= 1e-5 and row["mismatch/prob_diff_max"] <= 1e-4
        assert row["sync/probe_error"] <= 1e-5 and least_bytes <= row["sync/bytes"] <= most_bytes
        assert row["policy/grad_norm"] > 0 and row["rollout/staleness_max"] == 0


def test_a_vllm_server_that_leaves_the_temperature_out_is_refused_with_the_mend(files, tmp_path):
    process = real.start("vllm", files, tmp_path, "--logprobs-mode raw_logprobs")
    try:
        config = over(files, tmp_path / "run", "vllm", process.url)
        with pytest.raises(EngineError, match="--logprobs-mode processed_logprobs"):
            pipeline.run_all(config, bridges)
    finally:
        process.stop()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_server_killed_in_mid_rollout_costs_no_sample_and_comes_back(kind, files, tmp_path, capfd):
    config = resolve(
        real.settings(files, tmp_path / "run", kind, EXPERTS, servers__count=2, rollout__max_tokens=60,
                      train__steps=1, rollout__stop_strings=()))
    model = policy(config)
    engine = bridges.make_engine(config, model, load_tokenizer(config.model.path))
    try:
        engine.publish(nnx.state(model), 1)
        victim = engine._pool.members[0]
        killer = threading.Thread(target=lambda: (wait_until(lambda: victim.samples > 0), time.sleep(0.3),
                                                  os.killpg(victim.process.pid, signal.SIGKILL)))
        killer.start()
        wanted = [
            dataclasses.replace(one, params=dataclasses.replace(one.params, n=4, max_tokens=60))
            for one in requests(24)
        ]
        drawn = engine.generate(wanted)
        killer.join()
        assert [len(completions) for completions in drawn] == [4] * 24
        assert engine.stats()["retried_samples"] > 0 and "taken out" in capfd.readouterr().out
        probe = Probe(model, 128)
        params = nnx.state(model)
        assert probe(engine._pool.live[0].server, params, engine._pool.weights) < 1e-5
        wait_until(lambda: engine._pool._look_at_lost() or len(engine._pool.live) == 2, 120)
        found = engine.publish(params, 2)
        assert found["sync/servers"] == 2 and found["sync/probe_error"] < 1e-5 and found[
            "sync/retried_samples"] > 0

        engine._writer = Killing(engine._writer, engine._pool.members[1].process)
        randomise_adapters(model, std=0.3)
        found = engine.publish(nnx.state(model), 3)
        assert found["sync/servers"] == 1 and found[
            "sync/probe_error"] < 1e-5 and "left out" in capfd.readouterr().out
        wait_until(lambda: engine._pool._look_at_lost() or len(engine._pool.live) == 2, 120)
        assert [member.weights.version for member in engine._pool.live] == [3, 3]
    finally:
        engine.close()


class Killing:
    """A writer whose first walk kills a server on its way."""

    def __init__(self, writer, process):
        self._writer = writer
        self._process = process
        self.remove = writer.remove
        self.close = writer.close

    def __call__(self, params, version):
        weights = self._writer(params, version)

        def walk(held):
            for number, one in enumerate(weights.walk(held)):
                if number == 5 and self._process:
                    os.killpg(self._process.pid, signal.SIGKILL)
                    self._process = None
                yield one
        return dataclasses.replace(weights, walk=walk)
