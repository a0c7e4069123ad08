"""What the engine returns, against transformers and against full forward passes of the same model."""
import jax
import numpy as np
import pytest
from flax import nnx

from jaxrl_moe.config import RolloutSection
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.model.config import LoraConfig, ModelConfig, RopeConfig
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.types import Request, SamplingParams, UserError
from tests.helpers import oracles
from tests.helpers.rollouts import requests


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def assert_same(got, want):
    for ours, theirs in zip(got, want, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.ids, b.ids)
            np.testing.assert_allclose(a.logprobs, b.logprobs, rtol=1e-4, atol=1e-5)
            assert a.finish_reason == b.finish_reason


def assert_idle(engine):
    assert engine.stats()["kv_pages_used"] == 0


def test_greedy_tokens_are_those_of_transformers(engine, prompts, checkpoint):
    torch = oracles.torch()
    reference = oracles.transformers_model(checkpoint)
    reference.generation_config.eos_token_id = None
    for ids, (completion,) in zip(prompts, engine.generate(requests(prompts, temperature=0.0)), strict=True):
        with torch.no_grad():
            expected = reference.generate(torch.tensor(ids[None].astype(np.int64)), max_new_tokens=12,
                                          do_sample=False)
        np.testing.assert_array_equal(completion.ids, expected[0, len(ids):].numpy())
        assert completion.finish_reason == "length"
    assert_idle(engine)


@pytest.mark.parametrize("temperature,top_p", [(1.0, 1.0), (0.6, 1.0), (1.3, 0.7), (0.0, 1.0)])
def test_logprobs_are_those_of_a_full_forward_pass(engine, prompts, forward, temperature, top_p):
    for ids, group in zip(prompts,
                          engine.generate(requests(prompts, temperature=temperature, top_p=top_p, n=2))):
        for completion in group:
            logits, _ = forward(np.concatenate([ids, completion.ids]))
            expected = log_softmax(logits[len(ids) - 1:-1] / (temperature or 1.0))[np.arange(12),
                                                                                   completion.ids]
            assert np.abs(completion.logprobs - expected).max() / np.abs(expected).max() < 1e-5
            assert completion.logprobs.dtype == np.float32 and completion.ids.dtype == np.int32


def test_routed_experts_are_those_of_a_full_forward_pass(engine, prompts, forward):
    for ids, group in zip(prompts, engine.generate(requests(prompts, return_routed_experts=True, n=2))):
        for completion in group:
            _, expected = forward(np.concatenate([ids, completion.ids]))
            np.testing.assert_array_equal(np.sort(completion.expert_ids), np.sort(expected[:-1]))
            assert completion.expert_ids.dtype == np.int8


def test_tokens_do_not_depend_on_who_shares_the_batch(engine, prompts):
    work = requests(prompts, n=3)
    together = engine.generate(work)
    assert_same([engine.generate([request])[0] for request in work], together)
    assert_same(engine.generate(work[::-1])[::-1], together)


def test_samples_sequences_turns_and_streams_draw_differently(engine, prompts):
    ids = prompts[4]
    params = SamplingParams(max_tokens=12, n=2)
    variants = [
        Request(ids, params, 0),
        Request(ids, params, 1),
        Request(ids, params, 0, turn=1),
        Request(ids, params, 0, stream=1)
    ]
    drawn = [tuple(completion.ids) for group in engine.generate(variants) for completion in group]
    assert len(set(drawn)) == 8


def test_the_same_requests_give_the_same_bits_again(engine, prompts):
    first = engine.generate(requests(prompts, n=2))
    second = engine.generate(requests(prompts, n=2))
    for a, b in zip(sum(first, []), sum(second, [])):
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_array_equal(a.logprobs, b.logprobs)


def test_requests_of_different_settings_share_a_batch(engine, prompts):
    settings = [
        dict(temperature=0.0),
        dict(top_k=1),
        dict(max_tokens=1),
        dict(max_tokens=7, temperature=0.5),
        dict(top_p=1e-6),
        dict(n=3)
    ]
    work = [Request(prompts[5], SamplingParams(**({"max_tokens": 12} | params)), 0) for params in settings]
    together = engine.generate(work)
    assert [len(group[0].ids) for group in together] == [12, 12, 1, 7, 12, 12]
    for narrow in (1, 4):  # one candidate left: greedy, whatever the noise
        np.testing.assert_array_equal(together[narrow][0].ids, together[0][0].ids)
    np.testing.assert_array_equal(together[5][0].ids[:1], together[2][0].ids)
    assert_same([engine.generate([request])[0] for request in work], together)


def test_a_stop_id_ends_the_completion_and_is_its_last_token(engine, prompts, make_engine):
    work = requests(prompts)
    free = engine.generate(work)
    stop = int(free[3][0].ids[6])
    for (got,), (whole,) in zip(engine.generate(requests(prompts, stop_ids=(stop, 400, 401, 402, 403))),
                                  free, strict=True):
        hits = np.flatnonzero(whole.ids == stop)
        end = hits[0] + 1 if len(hits) else 12
        np.testing.assert_array_equal(got.ids, whole.ids[:end])
        assert got.finish_reason == ("stop" if len(hits) else "length")
        assert len(got.logprobs) == len(got.policy_version) == end


def test_stop_strings_cut_right_after_the_token_that_completes_them(make_engine, prompts):
    text = lambda ids: "".join(f"<{i}>" for i in ids)  # noqa: E731
    engine = make_engine(options={"detokenise": text, "eos_ids": (2,)})
    free = engine.generate(requests(prompts))
    a, b = free[2][0].ids[3:5]
    (got,) = engine.generate(requests(prompts[:3], stop_strings=(f"<{a}><{b}",)))[2]
    np.testing.assert_array_equal(got.ids, free[2][0].ids[:5])
    assert got.finish_reason == "stop" and len(got.logprobs) == 5


def test_published_weights_are_used_and_named(engine, model, prompts):
    params = nnx.state(model)
    work = requests(prompts, max_tokens=8)
    before = engine.generate(work)
    changed = jax.tree.map(lambda x: 1.1 * x, params)
    compiles = engine.stats()["compiles"]
    engine.publish(changed, 5)
    after = engine.generate(work)
    engine.publish(params, 6)
    again = engine.generate(work)
    assert engine.stats()["compiles"] == compiles
    assert any((x.ids != y.ids).any() for (x,), (y,) in zip(before, after))
    assert_same(again, before)
    assert {int(v) for (c,) in after
            for v in c.policy_version} == {5} and {int(v) for (c,) in again
                                                   for v in c.policy_version} == {6}


def test_weights_published_in_flight_mark_the_tokens_they_drew(engine, model, prompts):
    handle = engine.submit(Request(prompts[3], SamplingParams(max_tokens=12), 0))
    engine.publish(nnx.state(model), 1)
    engine.step()
    engine.publish(nnx.state(model), 2)
    done = {}
    while not done:
        done = engine.step()
    assert done[handle][0].policy_version.tolist() == [1] * 5 + [2] * 7


def test_chunks_heard_while_drawing_make_up_the_completions(make_engine, prompts):
    engine = make_engine(options={"detokenise": lambda ids: "".join(f"<{i}>" for i in ids)})
    (free,) = engine.generate([Request(prompts[2], SamplingParams(max_tokens=12), 0)])
    params = SamplingParams(max_tokens=12, n=2, stop_strings=(f"<{free[0].ids[6]}>",))
    heard = []
    done = {}
    handle = engine.submit(Request(prompts[2], params, 0), heard.append)
    while not done:
        done = engine.step()
    for sample, completion in enumerate(done[handle]):
        chunks = [chunk for chunk in heard if chunk.sample == sample]
        for field in ("ids", "logprobs", "policy_version"):
            np.testing.assert_array_equal(np.concatenate([getattr(c, field) for c in chunks]),
                                          getattr(completion, field))
        assert [c.finish_reason for c in chunks] == [""] * (len(chunks) - 1) + [completion.finish_reason]


def test_a_cancelled_request_frees_its_pages_and_the_others_go_on(engine, prompts):
    work = requests(prompts, n=2)
    expected = engine.generate(work)
    done = {}
    handles = [engine.submit(request) for request in work]
    engine.step()
    for handle in handles[1::2]:
        engine.cancel(handle)
    while len(done) < 4:
        done.update(engine.step())
    engine.cancel(handles[0])  # done already: nothing happens
    assert_idle(engine)
    assert_same([done[handle] for handle in handles[::2]], expected[::2])


def test_a_rollout_carried_over_versions_has_the_logprobs_of_the_weights_that_drew_each_token(
        engine, model, prompts, forward):
    """With release() before publish(), as rollouts that run ahead do it: over the whole prefix, not over what
    older weights left of it."""
    graphdef, params = nnx.split(model)
    weights = {
        version: jax.tree.map(lambda x, version=version: (1 + 0.1 * version) * x, params)
        for version in (1, 2, 3)
    }
    work = requests(prompts, n=2)
    handles = [engine.submit(request) for request in work]
    done = {}
    for version in (1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3):
        engine.release()
        engine.publish(weights[version], version)
        done |= engine.step()
    engine.publish(params, 0)
    assert_idle(engine)
    seen = set()
    for ids, handle in zip(prompts, handles):
        for completion in done[handle]:
            whole = np.concatenate([ids, completion.ids])
            expected = {
                version: log_softmax(forward(whole, nnx.merge(graphdef, one))[0])[len(ids) - 1:-1][
                    np.arange(12), completion.ids]
                for version, one in weights.items()}
            drew = np.array(
                [expected[version][token] for token, version in enumerate(completion.policy_version)])
            assert np.abs(completion.logprobs - drew).max() / np.abs(drew).max() < 1e-5
            assert np.abs(completion.logprobs - expected[1]).max() > 1e-2 or set(
                completion.policy_version) == {1}
            assert (np.diff(completion.policy_version) >= 0).all()
            seen.add(tuple(sorted(set(completion.policy_version.tolist()))))
    assert (1, 2, 3) in seen


def test_a_batch_drawn_while_requests_are_in_flight_has_the_bits_of_an_idle_engine(engine, prompts):
    work = requests(prompts[:4], n=2)
    other = requests(prompts[::-1], max_tokens=9)
    expected = engine.generate(work)
    alone = engine.generate(other)
    handles = [engine.submit(request) for request in work]
    done = {}
    done |= engine.step()
    between = engine.generate(other)
    for mine, theirs in zip(between, alone, strict=True):
        np.testing.assert_array_equal(mine[0].ids, theirs[0].ids)
        np.testing.assert_array_equal(mine[0].logprobs, theirs[0].logprobs)
    while len(done) < len(handles):
        done |= engine.step()
    assert_idle(engine)
    assert_same([done[handle] for handle in handles], expected)


def test_a_request_that_is_cut_keeps_what_was_drawn(engine, prompts):
    work = requests(prompts[:2], n=2)
    expected = engine.generate(work)
    handles = [engine.submit(request) for request in work]
    assert engine.cut(handles[0]) is None  # nothing drawn yet
    engine.step()
    cut = engine.cut(handles[0])
    done = {}
    while not done:
        done = engine.step()
    assert engine.cut(handles[0]) is None and engine.cut(handles[1]) is None
    assert_idle(engine)
    assert_same([done[handles[1]]], [expected[1]])
    for mine, whole in zip(cut, expected[0], strict=True):
        np.testing.assert_array_equal(mine.ids, whole.ids[:5])
        assert mine.finish_reason == "length" and len(mine.logprobs) == len(mine.policy_version) == 5


def test_adapters_windows_and_dense_layers_draw_as_in_a_full_forward_pass(prompts):
    """A dense layer under two sparse ones, a window of 6 on one of them, tied embeddings, and LoRA with B !=
    0."""
    config = ModelConfig(family="qwen3_moe", vocab_size=320, hidden_size=32, num_layers=3, num_heads=4,
                         num_kv_heads=2, head_dim=8, intermediate_size=48, sparse_layers=(False, True, True),
                         windows=(0, 6, 0), num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24,
                         tie_word_embeddings=True, initializer_range=0.2)
    model = Transformer(config, lora=LoraConfig(4, 8.0), rngs=nnx.Rngs(0))
    nnx.update(model, jax.tree.map(lambda x: x + 0.1, nnx.state(model, nnx.LoRAParam)))
    engine = JaxEngine(model, RolloutSection(slots=4, page_size=4, max_tokens=12, decode_steps=5),
                       max_prompt_tokens=20, seed=1)
    groups = engine.generate(requests(prompts[:6]))
    tokens = np.zeros((6, 32), np.int32)
    lengths = np.array([[len(ids) + 12] for ids in prompts[:6]])
    for row, (ids, (completion,)) in enumerate(zip(prompts, groups)):
        tokens[row, :lengths[row, 0]] = np.concatenate([ids, completion.ids])
    positions = np.broadcast_to(np.arange(32), tokens.shape)
    whole = nnx.jit(lambda model, ids, *rows: model(ids, Pass(*rows)))
    hidden, _ = whole(model, tokens, positions, (positions < lengths).astype(np.int32))
    expected = log_softmax(np.asarray(model.logits(hidden), np.float64))
    for row, (ids, (completion,)) in enumerate(zip(prompts, groups)):
        want = expected[row, len(ids) - 1:len(ids) + 11][np.arange(12), completion.ids]
        assert np.abs(completion.logprobs - want).max() / np.abs(want).max() < 1e-5


@pytest.mark.parametrize("rope, context", [
    (RopeConfig(type="yarn", factor=4.0, original_max_position_embeddings=8), 32),
    (RopeConfig(type="dynamic", factor=2.0, original_max_position_embeddings=16), 16)])
def test_up_to_the_drawn_context_of_scaled_embeddings_logprobs_are_those_of_a_packed_pass(rope, context):
    config = ModelConfig(family="qwen3", vocab_size=320, hidden_size=32, num_layers=2, num_heads=4,
                         num_kv_heads=2, head_dim=8, intermediate_size=48, sparse_layers=(False,) * 2,
                         windows=(0, 0), initializer_range=0.2, rope=rope, max_position_embeddings=16)
    model = Transformer(config, rngs=nnx.Rngs(0))
    engine = JaxEngine(model, RolloutSection(slots=4, page_size=4, max_tokens=28, decode_steps=5),
                       max_prompt_tokens=8, seed=1)
    assert engine.context == config.drawn_context == context
    ids = np.arange(3, 7, dtype=np.int32)
    with pytest.raises(UserError, match=f"the model's context is {context}"):
        engine.generate(requests([ids], max_tokens=context - 3))
    ((completion,),) = engine.generate(requests([ids], max_tokens=context - 4))
    row = np.concatenate([np.full(20, 7), ids, completion.ids]).astype(np.int32)  # behind a longer segment
    lengths = (20, context)
    positions = np.concatenate([np.arange(length) for length in lengths])
    hidden, _ = model(row[None], Pass(positions[None], np.repeat([1, 2], lengths)[None]))
    expected = log_softmax(np.asarray(model.logits(hidden), np.float64))[0, 23:-1]
    want = expected[np.arange(context - 4), completion.ids]
    assert np.abs(completion.logprobs - want).max() / np.abs(want).max() < 1e-5
