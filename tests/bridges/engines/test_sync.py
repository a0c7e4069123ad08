"""Weights into fake servers that keep what they are given: whole, in part, half-way, and while requests are
drawn."""
import concurrent.futures
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bridges
from bridges.engines.assembly import KINDS
from bridges.engines.engine import over_servers
from bridges.engines.pool import Member, Pool
from bridges.engines.sync import WeightWriter
from bridges.hf.streaming import tensor_sets
from bridges.servers.http import EngineError, Http, Unavailable
from bridges.servers.receiver import UNFINISHED, Weights
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.types import Request, SamplingParams
from tests.helpers import oracles
from tests.helpers.parity import randomise_adapters
from tests.helpers.waiting import wait_until

STREAMS = ("stream", "delta")


@pytest.fixture(scope="module")
def model(checkpoint):
    found = bridges.load_model(checkpoint, lora=LoraConfig(4, 8.0, targets=("q_proj", "v_proj")))
    randomise_adapters(found)
    return found


def moved(model, amount):
    """The model's weights with its adapters moved."""
    return jax.tree.map(lambda array: array, nnx.state(nnx.merge(*shifted(model, amount))))


def shifted(model, amount):
    graphdef, state = nnx.split(model)
    for path, variable in nnx.to_flat_state(state):
        if path[-1] == "lora_b":
            variable.set_value(variable[...] + amount)
    return graphdef, state


def merged(model, params):
    return {
        key: array for one in tensor_sets(nnx.merge(nnx.split(model)[0], params))
        for key, array in one.tensors.items()
    }


def same(fake, tensors):
    return fake.tensors.keys() == tensors.keys() and all(
        np.array_equal(fake.tensors[key], array) for key, array in tensors.items())


def make_pool(model, *fakes, verify=lambda server, weights: 0.0, in_flight="resume", wait=5.0, said=None):
    return Pool(
        [Member(KINDS[fake.kind](Http(fake.url, timeout=20.0), model.config, in_flight)) for fake in fakes],
        verify, wait_seconds=wait, say=(said if said is not None else []).append)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("backend", STREAMS)
def test_streamed_weights_arrive_as_they_are_and_a_delta_sends_what_changed_alone(
        model, checkpoint, tmp_path, fakes, kind, backend):
    one = fakes(kind)
    other = fakes(kind)
    taken = []
    said = []
    both = make_pool(model, one, other, said=said)
    writer = WeightWriter(model, str(checkpoint), backend, str(tmp_path), 20_000)
    for version in (1, 2):
        params = moved(model, 0.1 * version)
        weights = writer(params, version)
        both.update(weights)
        assert same(one, merged(model, params)) and same(other, merged(model, params))
        assert one.label == other.label == weights.label and not list(
            (tmp_path / writer._root.name).glob("*/*"))
        taken.append([member.server.taken for member in both.members])
    attention = sum(array.nbytes for key, array in merged(model, params).items()
                    if any(f"{name}_proj" in key for name in "qkv"))
    whole = sum(array.nbytes for array in merged(model, params).values())
    # at the first attempt
    assert taken == [[whole] * 2, [attention if backend == "delta" else whole] * 2] and not said
    writer.close()


@pytest.mark.parametrize("lost", ["restarted", "missed a version"])
def test_a_delta_starts_from_what_the_server_really_holds(model, checkpoint, tmp_path, fakes, lost):
    one = fakes("vllm")
    other = fakes("sglang")
    both = make_pool(model, one, other)
    writer = WeightWriter(model, str(checkpoint), "delta", str(tmp_path), 10**6)
    both.update(writer(moved(model, 0.1), 1))
    if lost == "restarted":  # and nobody noticed
        other.label = "default"
        other.tensors.clear()
    else:
        other.up = False
        both.update(writer(moved(model, 0.2), 2))
        assert [member.server.url for member in both.live] == [one.url]
        other.up = True
    params = moved(model, 0.3)
    both.update(writer(params, 3))
    wait_until(lambda: both._look_at_lost() or len(both.live) == 2)
    assert same(one, merged(model, params)) and same(other, merged(model, params))
    whole = sum(array.nbytes for array in merged(model, params).values())
    # else it still has version 1, and says so
    assert (both.members[1].server.taken == whole) == (lost == "restarted")
    writer.close()


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("backend", STREAMS)
def test_a_sync_that_ends_half_way_leaves_a_label_that_nothing_is_taken_of_and_the_whole_is_sent_next(
        model, checkpoint, tmp_path, fakes, kind, backend):
    sound = fakes(kind)
    faulty = fakes(kind)
    both = make_pool(model, sound, faulty)
    writer = WeightWriter(model, str(checkpoint), backend, str(tmp_path), 6_000)
    both.update(writer(moved(model, 0.1), 1))
    faulty.load_fault = 1  # the second bucket fails
    params = moved(model, 0.2)
    both.update(writer(params, 2))
    assert [member.server.url for member in both.live] == [sound.url] and faulty.label.startswith(UNFINISHED)
    assert not same(faulty, merged(model, params)) and faulty.running.is_set()
    with pytest.raises(Unavailable, match="unfinished-.*was it started anew"):
        both.members[1].server.draw([7], SamplingParams(3), weights=both.weights, seed=0, stop_ids=(),
                                    versions=both.versions)
    faulty.load_fault = ""
    wait_until(lambda: both._look_at_lost() or len(both.live) == 2)
    assert same(faulty, merged(model, params)) and faulty.label == both.weights.label
    writer.close()


def test_a_full_disk_under_a_stream_stops_the_run_and_says_so(model, checkpoint, tmp_path, fakes,
                                                              monkeypatch):
    one = fakes("vllm")
    other = fakes("sglang")
    both = make_pool(model, one, other)
    writer = WeightWriter(model, str(checkpoint), "stream", str(tmp_path), 20_000)

    def full(*arguments):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("bridges.hf.tensor_files.os.posix_fallocate", full)
    with pytest.raises(EngineError, match="No space left.*servers.sync_folder"):
        both.update(writer(nnx.state(model), 1))
    assert one.label.startswith(UNFINISHED) and other.label.startswith(UNFINISHED) and not both.live
    writer.close()


def drawing(made, count=6, tokens=30):
    """A future of `count` requests that are being drawn."""
    threads = concurrent.futures.ThreadPoolExecutor(1)
    asked = [
        Request(np.array([3 + number, 4], np.int32), SamplingParams(tokens, n=2), number)
        for number in range(count)
    ]
    return threads.submit(made.generate, asked)


class Versions:
    """Stands for a WeightWriter: versions without files."""

    def __init__(self, adapter):
        self._adapter = adapter
        self.removed = []

    def __call__(self, params, version):
        return Weights(f"v{version}", version, "/folder", self._adapter, 5)

    def remove(self, weights):
        self.removed.append(weights.label)

    def close(self):
        pass


def engine(model, *fakes, adapter=False, in_flight="resume"):
    members = [
        Member(KINDS[fake.kind](Http(fake.url, timeout=20.0), model.config, in_flight)) for fake in fakes
    ]
    made = over_servers(members, Versions(adapter), lambda server, params, weights: 1e-6, config=model.config,
                        context=64, concurrency=8, seed=0, eos_ids=(2,), detokenise=str)
    made.publish(jnp.zeros(1), 1)
    return made


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("in_flight", ["resume", "abort"])
def test_requests_under_new_weights_are_drawn_once_with_the_version_of_each_token(
        model, fakes, kind, in_flight):
    one = fakes(kind)
    other = fakes(kind)
    made = engine(model, one, other, in_flight=in_flight)
    one.token_seconds = other.token_seconds = 0.01
    one.most = other.most = 8  # so that no draw ends before the last weights are there, or goes without some
    drawn = drawing(made)
    for version in (2, 3):
        wait_until(lambda: all(fake.labelled[fake.label] for fake in (one, other)))
        made.publish(jnp.zeros(1), version)
    one.most = other.most = None
    completions = [one for row in drawn.result() for one in row]
    assert made.stats()["retried_samples"] == 0 and len(completions) == 12
    for completion in completions:
        assert len(completion.ids) == len(completion.logprobs) == len(completion.policy_version) == 30
        assert completion.finish_reason == "length" and completion.policy_version.tolist() == sorted(
            completion.policy_version)
    assert set(np.concatenate([completion.policy_version for completion in completions])) == {1, 2, 3}
    bodies = [
        body for fake in (one, other) for path, body, _ in fake.asked
        if "generate" in path and body and body["sampling_params"]["n"] == 1
    ]
    assert bool(bodies) == (in_flight == "abort")
    begun = {}  # by seed: noise is used again only by a request that had got no further
    for body in bodies:
        sampling = body["sampling_params"]
        ids = tuple(body.get("token_ids") or body["input_ids"])
        assert begun.setdefault(sampling.get("seed", sampling.get("sampling_seed")), ids) == ids
    assert len(begun) >= 12 or not bodies
    made.close()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_adapter_is_unloaded_when_nothing_is_drawn_from_it_any_more(model, fakes, kind):
    fake = fakes(kind)
    made = engine(model, fake, adapter=True)
    fake.token_seconds = 0.02
    drawn = drawing(made)
    wait_until(lambda: fake.drawing == 6)
    made.publish(jnp.zeros(1), 2)
    assert fake.adapters == {"v1", "v2"} and made._writer.removed == ["v1"]
    later = drawing(made, count=1)
    versions = {version for row in drawn.result() for one in row for version in one.policy_version.tolist()}
    assert versions == {1} and {
        version for row in later.result() for one in row for version in one.policy_version.tolist()
    } == {2}
    wait_until(lambda: fake.adapters == {"v2"})
    made.close()


def test_a_third_adapter_waits_until_a_place_is_free(model, fakes):
    fake = fakes("vllm")
    made = engine(model, fake, adapter=True)
    fake.token_seconds = 0.02
    drawn = drawing(made)
    wait_until(lambda: fake.drawing == 6)
    made.publish(jnp.zeros(1), 2)
    assert not drawn.done()
    made.publish(jnp.zeros(1), 3)
    assert fake.adapters <= {"v2", "v3"} and "v3" in fake.adapters and len(drawn.result()) == 6
    made.close()


def test_tokens_of_an_earlier_version_than_the_request_began_with_are_refused(model, fakes):
    fake = fakes("vllm")
    alone = make_pool(model, fake)
    alone.update(Weights("v1", 1, "/folder", False))
    alone.update(Weights("v2", 2, "/folder", False))
    fake.label = "v1"
    with pytest.raises(Unavailable, match="'v1' instead of 'v2'"):
        alone.members[0].server.draw([7], SamplingParams(3), weights=alone.weights, seed=0, stop_ids=(),
                                     versions=alone.versions)


def test_labels_must_cover_each_token_once(model, fakes, monkeypatch):
    fake = fakes("vllm")
    alone = make_pool(model, fake)
    alone.update(Weights("v1", 1, "/folder", False))
    monkeypatch.setattr("tests.helpers.fake_server.spans", lambda labels: [{
        "version": "v1",
        "start": 1,
        "end": len(labels)
    }])
    with pytest.raises(Unavailable, match="do not cover each once"):
        alone.members[0].server.draw([7], SamplingParams(3), weights=alone.weights, seed=0, stop_ids=(),
                                     versions=alone.versions)


def test_a_server_comes_back_only_with_weights_that_can_still_be_probed(model, fakes):
    fake = fakes("vllm")
    made = engine(model, fake)
    params = jnp.zeros(1)
    made.publish(params, 2)
    made._pool._lose(made._pool.members[0], "it hung")
    params.delete()
    time.sleep(0.1)
    made._pool._look_at_lost()
    assert "comes back with the next weights" in made._pool.members[0].lost
    made.publish(jnp.zeros(1), 3)
    assert not made._pool.members[0].lost
    made.close()


def test_a_server_that_does_not_join_a_group_says_why_at_once(model, fakes, checkpoint, tmp_path):
    oracles.torch()
    fake = fakes("sglang")
    fake.load_fault = "500"
    alone = make_pool(model, fake, wait=0.2)
    writer = WeightWriter(model, str(checkpoint), "distributed", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(EngineError, match="No server is left.*no such folder"):
        alone.update(writer(nnx.state(model), 1))
    assert time.monotonic() - start < 30 and fake.label.startswith(UNFINISHED)
    writer.close()


def test_distributed_without_torch_names_the_extra(model, fakes, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    alone = make_pool(model, fakes("vllm"))
    writer = WeightWriter(model, str(checkpoint), "distributed", str(tmp_path))
    with pytest.raises(EngineError, match=r"jaxrl-moe\[distributed\]"):
        alone.update(writer(nnx.state(model), 1))
    writer.close()
