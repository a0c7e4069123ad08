"""Clients and pool against a server that speaks the engines' recorded shapes and fails on demand;
tests/engines has the real ones."""
import contextlib
import dataclasses
import os
import threading
import time

import numpy as np
import pytest

from bridges.engines.assembly import KINDS
from bridges.engines.engine import over_servers
from bridges.engines.pool import Member, Pool
from bridges.servers.http import EngineError, Http, Refused, Unavailable
from bridges.servers.receiver import Weights
from jaxrl_moe.hosts.keys import key_of_setting
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.rollout.ahead.account import Rules
from jaxrl_moe.types import Request, SamplingParams, UserError
from tests.helpers.fake_server import VOCAB
from tests.helpers.scripted_engine import make, train

FULL = Weights("v1-abc", 1, "/folder", adapter=False, bytes=5)
CONFIG = ModelConfig.from_hf(
    dict(architectures=["Qwen3MoeForCausalLM"
                        ], model_type="qwen3_moe", vocab_size=VOCAB, hidden_size=32, intermediate_size=48,
         num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, norm_topk_prob=True,
         mlp_only_layers=[0], decoder_sparse_step=1, num_hidden_layers=3, num_attention_heads=4,
         num_key_value_heads=2, head_dim=8, max_position_embeddings=256, rms_norm_eps=1e-6, rope_theta=1e4,
         tie_word_embeddings=False, hidden_act="silu", attention_bias=False))
FAULTS = ("500", "truncated", "hang", "drip", "nan", "short", "stale", "reset")


def client(fake, timeout=5.0, key=""):
    return KINDS[fake.kind](Http(fake.url, timeout=timeout, api_key=key), CONFIG)


def make_pool(*fakes, timeout=5.0, wait=5.0, verify=lambda server, weights: 0.0, said=None):
    return Pool([Member(client(fake, timeout)) for fake in fakes], verify, wait_seconds=wait,
                say=(said if said is not None else []).append)


class Written:
    """Stands for a WeightWriter: versions without files."""
    adapter = False

    def __call__(self, params, version):
        return Weights(f"v{version}-{params}", version, "/folder", False, 5)

    def remove(self, weights):
        pass

    def close(self):
        pass


def engine(*fakes, timeout=5.0, wait=5.0):
    made = over_servers([Member(client(fake, timeout))
                         for fake in fakes], Written(), lambda server, params, weights: 1e-6, config=CONFIG,
                        context=64, concurrency=4, seed=0, eos_ids=(2,),
                        detokenise=lambda ids: "".join(chr(97 + one % 26) for one in ids), wait_seconds=wait)
    made.publish("x", 1)
    return made


def requests(count, n=2, tokens=4, **params):
    return [
        Request(np.array([3 + number % 40, 4], np.int32), SamplingParams(tokens, n=n, **params), number)
        for number in range(count)
    ]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_client_reads_what_its_engine_answers(fakes, kind):
    fake = fakes(kind)
    server = client(fake, key="secret")
    assert server.context() == 64
    server.check(adapter=True)
    with pytest.raises(EngineError, match="moe.replay=r2"):
        server.check(adapter=False, routes=True)
    server.load(FULL)
    assert fake.label == FULL.label
    for n in (1, 3):
        samples = server.draw([7, 8], SamplingParams(5, 0.7, top_k=3, n=n), weights=FULL, seed=11,
                              stop_ids=(2, 9))
        assert len(samples) == n
        for sample in samples:
            assert sample.ids.tolist() == [7] * 5 and sample.logprobs.tolist(
            ) == [-1.0] * 5 and sample.finish_reason == "length"
            assert sample.versions == ((FULL.label, 0, 5),)
    path, body, headers = fake.asked[-1]
    sampling = body["sampling_params"]
    assert headers["Authorization"] == "Bearer secret" and sampling["stop_token_ids"] == [
        2, 9
    ] and sampling["temperature"] == 0.7
    assert sampling.get("seed", sampling.get("sampling_seed")) == 11 and sampling["top_k"] == 3


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_server_is_taken_out_and_every_request_is_answered_once_by_another(fakes, kind, fault):
    sound = fakes(kind)
    faulty = fakes(kind)
    made = engine(sound, faulty, timeout=0.6)
    faulty.fault = fault
    faulty.load_fault = "500"  # nor does it come back
    drawn = made.generate(requests(8))
    assert [[one.ids.tolist() for one in completions] for completions in drawn] == [[[3 + number] * 4] * 2
                                                                                    for number in range(8)]
    assert made.stats()["tokens"] == 8 * 2 * 4 and sound.drawn == 8
    assert made.stats()["servers"] == 1 and made.stats()["retried_samples"] > 0
    assert made.publish("x", 2)["sync/retried_samples"] == made.stats()["retried_samples"]
    made.close()


def test_a_server_that_is_full_is_asked_again_and_one_that_refuses_is_not(fakes):
    fake = fakes()
    server = client(fake)
    fake.fault = "429"
    assert len(server.draw([7], SamplingParams(3), weights=None, seed=0, stop_ids=())) == 1 and fake.busy == 2
    fake.fault = "refuse"
    before = len(fake.asked)
    with pytest.raises(Refused, match="answered 400: too long"):
        server.draw([7], SamplingParams(3), weights=None, seed=0, stop_ids=())
    assert len(fake.asked) == before + 1


def test_a_lost_server_comes_back_only_with_the_present_weights(fakes):
    sound = fakes()
    faulty = fakes()
    said = []
    both = make_pool(sound, faulty, said=said)
    both.update(FULL)
    faulty.fault = "500"
    for number in range(4):
        both.draw([7], SamplingParams(3), seed=0, stop_ids=(), group=number)
    assert [member.server.url for member in both.live] == [sound.url] and "1 of 2 are left" in said[0]
    faulty.up = False
    both.update(dataclasses.replace(FULL, label="v2-abc", version=2))
    assert (sound.label, faulty.label) == ("v2-abc", "v1-abc")
    faulty.fault = ""
    faulty.up = True
    time.sleep(0.1)
    for number in range(4, 8):
        both.draw([7], SamplingParams(3), seed=0, stop_ids=(), group=number)
    assert faulty.label == "v2-abc" and len(
        both.live) == 2 and "is back, with the weights of version 2" in said[-1]
    assert faulty.drawn > 0


def test_a_server_is_brought_back_by_one_request_at_a_time(fakes):
    one = fakes()
    other = fakes()
    syncs = []

    def slowly(server, weights):
        syncs.append(server.url)
        time.sleep(0.3)
        return 0.0
    both = make_pool(one, other)
    both.update(FULL)
    both._verify = slowly
    both._lose(both.members[1], "it hung")
    time.sleep(0.1)
    threads = [
        threading.Thread(target=both.draw, args=([7], SamplingParams(3)),
                         kwargs=dict(seed=0, stop_ids=(), group=number)) for number in range(6)
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.06)  # longer than RETRY_SECONDS
    for thread in threads:
        thread.join()
    assert syncs == [other.url] and len(both.live) == 2


def test_a_server_that_was_started_anew_behind_our_back_is_brought_to_the_weights_again(fakes):
    fake = fakes("sglang")
    alone = make_pool(fake)
    alone.update(FULL)
    fake.label = "default"
    [sample] = alone.draw([7], SamplingParams(3), seed=0, stop_ids=(), group=0)
    assert sample.versions[0][0] == FULL.label == fake.label and alone.retries == 1


def test_with_no_server_left_the_run_waits_and_goes_on_when_one_is_back(fakes):
    fake = fakes()
    said = []
    alone = make_pool(fake, said=said)
    alone.update(FULL)
    fake.up = False
    threading.Timer(0.4, lambda: setattr(fake, "up", True)).start()
    assert len(alone.draw([7], SamplingParams(3), seed=0, stop_ids=(), group=0)) == 1
    assert any("No server is left; waiting up to 5 seconds more" in line for line in said)


def test_with_no_server_left_for_too_long_the_run_stops_and_says_how_to_go_on(fakes):
    fake = fakes()
    made = engine(fake, wait=0.2)
    fake.up = False
    with pytest.raises(EngineError, match="none came back within servers.wait = 0.2 seconds.*goes on from "
                                          "its newest checkpoint"):
        made.generate(requests(6))
    made.close()


def test_a_request_that_brings_servers_down_ends_the_run_instead_of_going_round(fakes):
    fake = fakes()
    alone = make_pool(fake)
    alone.update(FULL)
    fake.fault = "500"
    with pytest.raises(EngineError, match="failed at 5 servers.*engine core died"):
        alone.draw([7], SamplingParams(3), seed=0, stop_ids=(), group=0)


def test_a_sync_that_fails_at_one_server_leaves_it_out_and_at_all_stops_the_run(fakes):
    one = fakes()
    other = fakes("sglang")
    both = make_pool(one, other, wait=0.2)
    other.load_fault = "500"
    both.update(FULL)
    assert [member.server.url
            for member in both.live] == [one.url] and "no such folder" in both.members[1].lost
    # others may use it: it is not left paused
    assert [path for path, *_ in other.asked][-1] == "/continue_generation"
    one.load_fault = "500"
    both.members[0].lost = "gone"
    with pytest.raises(EngineError, match="No server is left"):
        both.update(dataclasses.replace(FULL, label="v2"))


def test_a_server_that_answers_new_weights_with_nonsense_is_left_out(fakes):
    sound = fakes("sglang")
    faulty = fakes("sglang")
    both = make_pool(sound, faulty)
    faulty.load_fault = "garbage"
    both.update(FULL)
    assert [member.server.url
            for member in both.live] == [sound.url] and "unknown shape" in both.members[1].lost


def test_no_server_is_brought_back_while_new_weights_are_on_their_way(fakes):
    fake = fakes()
    alone = make_pool(fake)
    alone.update(FULL)
    alone._lose(alone.members[0], "it hung")
    alone.stand_still()
    time.sleep(0.1)
    alone._look_at_lost()
    assert not alone.live
    alone.update(dataclasses.replace(FULL, label="v2-abc", version=2))
    assert alone.live and fake.label == "v2-abc"


def test_a_request_that_is_aborted_over_and_over_ends_the_run(fakes, monkeypatch):
    fake = fakes()
    alone = make_pool(fake, wait=0.2)
    alone.update(FULL)
    alone.members[0].server.in_flight = "abort"
    monkeypatch.setattr(fake, "_labels", lambda count, stale: ([], "abort"))
    with pytest.raises(EngineError, match="aborted over and over"):
        alone.draw([7], SamplingParams(3), seed=0, stop_ids=(), group=0)


def test_a_server_that_cannot_see_the_weights_is_named_with_the_setting(fakes):
    fake = fakes()
    fake.load_fault = "refuse"
    with pytest.raises(EngineError, match="no such folder.*servers.sync_folder"):
        make_pool(fake).update(FULL)


def test_a_failed_probe_stops_the_run(fakes):
    def verify(server, weights):
        raise EngineError("disagrees")
    with pytest.raises(EngineError, match="disagrees"):
        make_pool(fakes(), verify=verify).update(FULL)


def test_adapters_of_earlier_versions_are_unloaded(fakes):
    fake = fakes("sglang")
    alone = make_pool(fake)
    for number in (1, 2, 3):
        alone.update(Weights(f"v{number}", number, "/folder", adapter=True))
    loads = [(path, body["lora_name"]) for path, body, _ in fake.asked if "lora" in path]
    assert loads == [("/load_lora_adapter", "v1"), ("/load_lora_adapter", "v2"),
                     ("/unload_lora_adapter", "v1"), ("/load_lora_adapter", "v3"),
                     ("/unload_lora_adapter", "v2")]
    alone.draw([7], SamplingParams(3), seed=0, stop_ids=(), group=0)
    assert fake.asked[-1][1]["lora_path"] == "v3"


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("restarted", [True, False])
def test_a_lost_server_gets_its_adapter_again_whether_it_still_has_it_or_not(fakes, kind, restarted):
    fake = fakes(kind)
    alone = make_pool(fake)
    alone.update(Weights("v1", 1, "/folder", adapter=True))
    if restarted:
        fake.adapters.clear()
    else:
        alone._lose(alone.members[0], "it hung")
    assert len(alone.draw([7], SamplingParams(3), seed=0, stop_ids=(), group=0)) == 1
    assert fake.adapters == {"v1"} and alone.members[0].adapters == ["v1"] and alone.retries == restarted


def test_groups_spread_over_the_servers_and_a_group_stays_at_its_own(fakes):
    one = fakes()
    other = fakes()
    both = make_pool(one, other)
    both.update(FULL)
    homes = {}
    for number in range(6):
        both.members[number % 2].drawing["v1"] = 3  # as if this one were at work
        homes[number], weights = both._take(2, number)
        both._give_back(homes[number], weights, 2)
        both.members[number % 2].drawing.clear()
    assert all(home is both.members[1 - number % 2] for number, home in homes.items())
    for number, home in homes.items():
        home.drawing["v1"] = 10
        assert both._take(2, number)[0] is home  # the prefix is cached there
        home.drawing["v1"] = 40
        assert both._take(2, number)[0] is not home  # but not at any price
        for member in both.members:
            member.drawing.clear()


def test_the_turns_of_an_episode_go_to_one_server_while_it_is_there(fakes):
    """Whatever else they have to do; samples of one prompt spread like groups."""
    servers = [fakes(), fakes()]
    made = engine(*servers)
    ids = np.array([3, 4], np.int32)

    def asked():
        """Which server drew last."""
        drawn = [sum(path == "/inference/v1/generate" for path, *_ in fake.asked) for fake in servers]
        number = int(np.argmax(np.subtract(drawn, counts)))
        counts[:] = drawn
        return number

    def turn(sample, number):
        request = Request(ids, SamplingParams(2), 7, turn=number, sample=sample)
        made.generate([request])
        return asked()

    counts = [0, 0]
    asked()
    homes = {}
    for sample in range(3):
        homes[sample] = turn(sample, 0)
        made._pool.members[homes[sample]].drawing["v1-x"] += 40  # as if it were at work, so that others go on
    assert set(homes.values()) == {0, 1}
    for number in range(1, 4):
        assert {sample: turn(sample, number) for sample in homes} == homes
    made._pool._lose(made._pool.members[homes[0]], "it hung")
    assert turn(0, 4) == 1 - homes[0] == turn(0, 5)
    made.close()


def test_completions_are_cut_behind_a_stop_string_and_bear_the_policy_version(fakes):
    made = engine(fakes())
    [[one]] = made.generate([Request(np.array([4], np.int32), SamplingParams(6, stop_strings=("ee",)), 0)])
    assert one.ids.tolist() == [4, 4] and len(
        one.logprobs) == 2 and one.finish_reason == "stop" and one.policy_version.tolist() == [1, 1]
    made.close()


def test_routes_come_from_sparse_layers_alone_and_are_cut_with_the_tokens(fakes):
    made = engine(fakes("sglang"))
    request = requests(1, return_routed_experts=True, stop_strings=("dd",))[0]
    [completions] = made.generate([request])
    for one in completions:
        # two prompt tokens and the first drawn; layers 1 and 2
        assert len(one.ids) == 2 and one.expert_ids.shape == (3, 2, 2)
        assert one.expert_ids.tolist() == [[[3 * token + layer, 100] for layer in (1, 2)]
                                           for token in range(3)]
    made.close()


def test_seeds_follow_from_the_coordinates_of_a_request(fakes):
    fake = fakes()
    made = engine(fake)
    others = (dataclasses.replace(requests(1)[0], **changed) for changed in (
        {"stream": 1}, {"sample": 1}, {"turn": 1}))
    for request in (*requests(2), *requests(2), *others):
        made.generate([request])
    seeds = [
        body["sampling_params"]["seed"] for path, body, _ in fake.asked if path == "/inference/v1/generate"
    ]
    assert seeds[:2] == seeds[2:4] and len(set(seeds)) == 5 and all(0 <= seed < 2**31 for seed in seeds)
    made.close()


def test_prompts_that_no_server_should_see_are_refused_here(fakes):
    fake = fakes()
    made = engine(fake)
    before = len(fake.asked)
    for ids, tokens, message in ((np.array([VOCAB], np.int32), 4, "vocabulary"),
                                 (np.arange(3, 43, dtype=np.int32), 30, "context is 64")):
        with pytest.raises(UserError, match=message):
            made.generate([Request(ids, SamplingParams(tokens), 0)])
    assert len(fake.asked) == before
    made.close()


def test_requests_come_and_go_while_others_are_drawn(fakes):
    fake = fakes()
    made = engine(fake)
    expected = made.generate(requests(3))
    handles = [made.submit(request) for request in requests(3)]
    made.cancel(handles[1])
    done = {}
    while len(done) < 2:
        assert made.cut(handles[0]) is None
        done |= made.step()
    assert sorted(done) == [handles[0], handles[2]] and made.step() == {} and not made.devices
    for number in (0, 2):
        assert [one.ids.tolist()
                for one in done[handles[number]]] == [one.ids.tolist() for one in expected[number]]
    assert made.stats()["tokens"] == sum(
        len(one.ids) for group in (*expected, *done.values()) for one in group)
    fake.fault = "refuse"
    made.submit(requests(1)[0])
    with pytest.raises(EngineError):
        while True:
            made.step()
    made.close()


def test_rollouts_run_ahead_on_servers_and_one_that_is_lost_costs_no_draw(fakes):
    one = fakes()
    other = fakes("sglang")
    made = engine(one, other)
    seen = []
    with contextlib.closing(made), contextlib.closing(make(made, Rules(3, 2), last=8)) as producer:
        for step, batch, _ in train(producer, 8, hold=False):
            seen += [group.sequence for group in batch.kept]
            other.fault = "500" if step in (2, 3) else ""
            assert all(0 <= (step - rollout.policy_version).max() <= 2 for group in batch.kept
                       for rollout in group.rollouts)
    assert sorted(seen) == list(range(24)) and other.drawn and one.drawn


def test_a_server_that_is_not_there_is_unavailable_and_a_missing_key_is_named():
    with pytest.raises(Unavailable, match="ConnectError"):
        Http("http://127.0.0.1:9", timeout=1.0).get("/health")
    os.environ.pop("NO_SUCH_KEY", None)
    with pytest.raises(UserError, match="servers.api_key_env = 'NO_SUCH_KEY'"):
        key_of_setting("servers.api_key_env", "NO_SUCH_KEY", "the servers")
