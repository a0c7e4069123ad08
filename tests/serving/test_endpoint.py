"""The endpoint under the real openai client: what it answers is what the engine draws."""
import concurrent.futures
import json
import re

import numpy as np
import openai
import pytest

from jaxrl_moe.serving.openai.pieces import Offsets, Pieces, Speller
from jaxrl_moe.serving.openai.protocol import ChatRequest
from jaxrl_moe.serving.openai.recorder import Recorder
from jaxrl_moe.serving.openai.service import sampling, seeded
from jaxrl_moe.types import SamplingParams
from tests.helpers.serving import serving

IDS = [5, 17, 100, 42, 250, 33]
RAW = {"return_token_ids": True}
CHAT = dict(model="tiny", messages=[{"role": "user", "content": "What is 12 plus 7?"}], max_tokens=12, seed=5)


def complete(server, prompt=IDS, **options):
    extra = RAW | options.pop("extra_body", {})
    return server.openai.completions.create(
        **{
            "model": "tiny",
            "prompt": prompt,
            "max_tokens": 12,
            "logprobs": 0,
            "seed": 1
        } | options, extra_body=extra)


def drawn(front, ids=IDS, seed=1, **params):
    """The engine's own completions."""
    return front.generate(
        [seeded(np.array(ids, np.int32), SamplingParams(**({
            "max_tokens": 12
        } | params)), seed)])[0]


def assert_drawn(choice, completion, tokenizer, tolerance=1e-4):
    assert choice.token_ids == completion.ids.tolist() and choice.finish_reason == completion.finish_reason
    np.testing.assert_allclose(choice.logprobs.token_logprobs, completion.logprobs, rtol=tolerance,
                               atol=tolerance)
    assert choice.text == tokenizer.decode(completion.ids)


def test_a_completion_is_what_the_engine_draws_with_the_same_seed(server, front, tokenizer):
    """Alone in the batch, both have the same shapes: the numbers agree bit for bit."""
    got, (want,) = complete(server), drawn(front)
    assert_drawn(got.choices[0], want, tokenizer, 0)
    assert got.choices[0].prompt_token_ids == IDS and set(got.choices[0].policy_version) == {front.version}
    assert (got.usage.prompt_tokens, got.usage.completion_tokens, got.usage.total_tokens) == (6, 12, 18)
    logprobs = got.choices[0].logprobs
    assert logprobs.tokens == [tokenizer.decode([i], skip_special_tokens=False) for i in want.ids]
    data = b"".join(piece for piece in Speller(Pieces(tokenizer.hf)).spell(want.ids.tolist()))
    assert data.decode("utf-8", "replace") == got.choices[0].text
    tokens = Offsets(Pieces(tokenizer.hf)).add(want.ids.tolist())
    assert logprobs.text_offset == [token.offset for token in tokens]


@pytest.mark.parametrize("prompt", ["What is 12 plus 7?", ["Tom has 3 apples", "Anna gives"], [IDS, IDS[:3]]])
@pytest.mark.parametrize("n", [1, 3])
def test_prompts_as_texts_ids_and_lists_have_n_samples_each(server, front, tokenizer, prompt, n):
    prompts = [prompt] if isinstance(prompt, str) else prompt
    got = complete(server, prompt, n=n, temperature=0.7, top_p=0.9, extra_body={"top_k": 50, "min_p": 0.01})
    assert [choice.index for choice in got.choices] == list(range(len(prompts) * n))
    for number, one in enumerate(prompts):
        ids = tokenizer.encode(one) if isinstance(one, str) else one
        want = drawn(front, ids, n=n, temperature=0.7, top_p=0.9, top_k=50, min_p=0.01)
        for choice, completion in zip(got.choices[number * n:], want):
            assert_drawn(choice, completion, tokenizer)
            assert choice.prompt_token_ids == list(ids)


def test_a_streamed_completion_joins_to_the_whole_one(server, tokenizer):
    whole = complete(server, n=2, max_tokens=30)
    events = list(complete(server, n=2, max_tokens=30, stream=True, stream_options={"include_usage": True}))
    assert events[-1].choices == [] and events[-1].usage == whole.usage and all(event.usage is None
                                                                                for event in events[:-1])
    for choice in whole.choices:
        mine = [event.choices[0] for event in events[:-1] if event.choices[0].index == choice.index]
        assert len(mine) > 2 and "".join(part.text for part in mine) == choice.text
        assert [i for part in mine for i in part.token_ids] == choice.token_ids
        np.testing.assert_allclose([x for part in mine for x in part.logprobs.token_logprobs],
                                   choice.logprobs.token_logprobs, atol=1e-4)
        assert [x for part in mine for x in part.logprobs.text_offset] == choice.logprobs.text_offset
        assert [part.finish_reason for part in mine] == [None] * (len(mine) - 1) + [choice.finish_reason]
        assert [hasattr(part, "prompt_token_ids") for part in mine] == [True] + [False] * (len(mine) - 1)


def test_a_chat_is_the_completion_of_its_rendered_messages_streamed_or_not(server, front, tokenizer):
    ids = tokenizer.render(CHAT["messages"])
    (want,) = drawn(front, ids, seed=5)
    whole = server.openai.chat.completions.create(**CHAT, logprobs=True, extra_body=RAW)
    choice = whole.choices[0]
    assert whole.prompt_token_ids == ids.tolist() and choice.token_ids == want.ids.tolist()
    np.testing.assert_array_equal([part.logprob for part in choice.logprobs.content], want.logprobs)
    assert choice.message.role == "assistant" and choice.message.content == tokenizer.decode(want.ids)
    events = list(server.openai.chat.completions.create(**CHAT, logprobs=True, stream=True, extra_body=RAW))
    assert events[0].choices[0].delta.role == "assistant" and events[0].prompt_token_ids == ids.tolist()
    assert "".join(event.choices[0].delta.content or "" for event in events) == choice.message.content
    np.testing.assert_array_equal([part.logprob for e in events for part in e.choices[0].logprobs.content],
                                  want.logprobs)
    for part in choice.logprobs.content:
        assert bytes(part.bytes).decode("utf-8", "replace") == part.token


def test_a_chat_without_a_limit_may_use_what_the_context_leaves(server, front):
    options = CHAT | {
        "max_tokens": None,
        "temperature": 0,
        "messages": [{
            "role": "user",
            "content": "Ben " * 20
        }]
    }
    got = server.openai.chat.completions.create(**options)
    assert got.usage.total_tokens == front.context == 128 and got.choices[0].finish_reason == "length"


def test_messages_tools_and_variables_reach_the_template(server, tokenizer):
    tool = {"type": "function", "function": {"name": "add"}}
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [{"role": "user",
                 "content": [{"type": "text", "text": "1 + "}, {"type": "text", "text": "2?"}]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "3"}]
    got = server.openai.chat.completions.create(model="tiny", messages=messages, tools=[tool], max_tokens=1,
                                                extra_body=RAW | {"chat_template_kwargs": {"mood": "calm"}})
    text = tokenizer.decode(got.prompt_token_ids, skip_special_tokens=False)
    assert '"name": "add"' in text and "1 + 2?" in text and text.endswith("calm") and "None" not in text
    assert 'assistant\nadd{"a": 1}<|im_end|>' in text
    without = server.openai.chat.completions.create(model="tiny", messages=messages, tools=[tool],
                                                    tool_choice="none", max_tokens=1, extra_body=RAW)
    assert '"name": "add"' not in tokenizer.decode(without.prompt_token_ids)


def test_equal_seeds_draw_equal_tokens_whoever_shares_the_batch_and_others_do_not(server):
    def ids(seed):
        return complete(server, seed=seed).choices[0].token_ids

    seeds = [0, 7, -1, 2**63, 7 + 2**32, None, None]
    alone = {seed: ids(seed) for seed in seeds[:5]}
    with concurrent.futures.ThreadPoolExecutor(14) as pool:
        together = list(pool.map(ids, seeds * 2))
    for first, second, seed in zip(together, together[7:], seeds):
        assert seed is None or first == second == alone[seed]
    assert len({tuple(drawn) for drawn in (*alone.values(), *together[5:7], *together[12:])}) == 5 + 4


def test_32_clients_of_mixed_lengths_each_get_their_own_completion(server, front, tokenizer):
    rng = np.random.default_rng(2)
    work = [(rng.integers(3, 320, rng.integers(1, 16)).tolist(), int(rng.integers(1, 40)), number)
            for number in range(32)]
    expected = [drawn(front, ids, seed, max_tokens=limit)[0] for ids, limit, seed in work]

    def call(number):
        ids, limit, seed = work[number]
        if number % 2:
            return complete(server, ids, max_tokens=limit, seed=seed).choices[0]
        parts = [
            event.choices[0] for event in complete(server, ids, max_tokens=limit, seed=seed, stream=True)
        ]
        last = parts[-1]
        last.text = "".join(part.text for part in parts)
        last.token_ids = [i for part in parts for i in part.token_ids]
        last.logprobs.token_logprobs = [x for part in parts for x in part.logprobs.token_logprobs]
        return last

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        for got, want in zip(pool.map(call, range(32)), expected, strict=True):
            assert_drawn(got, want, tokenizer)
    assert server.service.in_flight == 0 and front.ask(lambda engine: engine.stats()["kv_pages_used"]) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_text_before_it_and_a_stop_id_after_it(server, front, tokenizer, stream):
    (free,) = drawn(front, max_tokens=30)
    text = tokenizer.decode(free.ids)
    stop = text[len(text) // 2:][:3]
    got = complete(server, max_tokens=30, stop=[stop, "never"], stream=stream)
    parts = [event.choices[0] for event in got] if stream else got.choices
    assert "".join(part.text
                   for part in parts) == text[:text.index(stop)] and parts[-1].finish_reason == "stop"
    ids = [i for part in parts for i in part.token_ids]
    assert ids == free.ids[:len(ids)].tolist() and stop in tokenizer.decode(ids)
    ended = complete(server, max_tokens=30, extra_body={"stop_token_ids": [int(free.ids[9])]}).choices[0]
    assert ended.finish_reason == "stop" and ended.token_ids == free.ids[:list(free.ids).index(free.ids[9])
                                                                         + 1].tolist()


REFUSED = [(dict(temprature=1), "temprature: unknown field"),
           (dict(max_tokens=0), "max_tokens"),
           (dict(max_tokens="12"), "max_tokens"),
           (dict(temperature=-1), "temperature"),
           (dict(temperature=1e-9), "at least 0.01"),
           (dict(top_p=0), "top_p"),
           (dict(top_k=-2), "top_k"),
           (dict(n=0), "n"),
           (dict(n=1000), "n"),
           (dict(seed=2**64), "seed"),
           (dict(stop=[""]), "stop"),
           (dict(stop=["x<|im_end|>"]), "im_end"),
           (dict(logprobs=3), "logprobs: .*drawn token"),
           (dict(echo=True), "echo"),
           (dict(suffix="x"), "suffix"),
           (dict(best_of=2), "best_of"),
           (dict(frequency_penalty=0.5), "frequency_penalty"),
           (dict(logit_bias={"5": 1}), "logit_bias"),
           (dict(prompt=""), "prompt"),
           (dict(prompt=[]), "prompt"),
           (dict(prompt=[[]]), "prompt"),
           (dict(prompt=[1, "a"]), "prompt"),
           (dict(prompt=[320]), "vocabulary"),
           (dict(prompt=[-1]), "prompt"),
           (dict(prompt=[1] * 300), "context"),
           (dict(max_tokens=300), "context"),
           (dict(stream_options={"include_usage": True}), "stream"),
           (dict(model=3), "model")]
NEUTRAL = dict(frequency_penalty=0, presence_penalty=0.0, logit_bias={}, echo=False, suffix=None, best_of=1,
               user="me", stop=None, temperature=None, top_p=None, n=None, seed=None, stream=False,
               store=False)


@pytest.mark.parametrize("fields, message", REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_honoured_is_refused_by_name(server, fields, message):
    answer = server.http.post("/v1/completions", json={
        "model": "tiny",
        "prompt": IDS,
        "max_tokens": 2
    } | fields)
    error = answer.json()["error"]
    assert answer.status_code == 400 and re.search(
        message, error["message"]) and error["type"] == "invalid_request_error", answer.text


@pytest.mark.parametrize(
    "fields, message",
    [(dict(top_logprobs=2, logprobs=True), "top_logprobs"),
     (dict(tool_choice="required"), "tool_choice"),
     (dict(messages=[]), "messages"),
     (dict(response_format={"type": "json_object"}), "response_format"),
     (dict(parallel_tool_calls=False), "parallel_tool_calls"),
     (dict(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
      "messages"),
     (dict(messages=[{"role": "assistant",
                      "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "[1]"}}]}]),
      "JSON object"),
     (dict(chat_template_kwargs={"enable_thinking": False}), "enable_thinking"),
     (dict(max_tokens=3, max_completion_tokens=4), "differ"),
     (dict(messages=[{"role": "wizard", "content": "x"}]), "messages.0.role"),
     (dict(max_completion_tokens=300), "context")])
def test_a_chat_that_cannot_be_honoured_is_refused_by_name(server, fields, message):
    answer = server.http.post("/v1/chat/completions", json={
        "model": "tiny",
        "messages": CHAT["messages"]
    } | fields)
    assert answer.status_code == 400 and re.search(message, answer.json()["error"]["message"]), answer.text


def test_neutral_values_of_what_is_not_served_are_accepted(server):
    assert server.http.post("/v1/completions", json={
        "model": "tiny",
        "prompt": IDS,
        "max_tokens": 2
    } | NEUTRAL).status_code == 200


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"model": NaN}',
    b'{"model": "\\ud800"}', b'{"\\ud800": 1}', b'{"model": "tiny", "prompt": "\\ud800"}',
    b'{"model": "tiny", "prompt": "x", "messages": [], "stop": "\\ud800"}',
    b'{"model":"tiny","prompt":[1e400]}'
])
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/load_lora_adapter"])
def test_a_malformed_body_is_answered_with_400(server, path, body):
    answer = server.http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["message"]


def test_errors_have_openais_classes(server):
    with pytest.raises(openai.NotFoundError, match="'other'.*'tiny'"):
        complete(server, model="other")
    with pytest.raises(openai.BadRequestError, match="drawn token"):
        complete(server, logprobs=2)
    assert server.http.get("/nowhere").status_code == 404 and server.http.get(
        "/v1/completions").status_code == 405
    assert server.http.post("/v1/completions", content=b"x" * (16 * 2**20 + 1)).status_code == 413

    def drip():
        for _ in range(17):
            yield b" " * 2**20

    assert server.http.post("/v1/completions", content=drip(), headers={
        "Content-Type": "application/json"
    }).status_code == 413


def test_models_health_and_metrics(server, front):
    before = metrics(server)
    assert [model.id for model in server.openai.models.list()] == ["tiny"]
    assert server.openai.models.retrieve("tiny").max_model_len == 128
    assert server.http.get("/v1/models/none").status_code == 404
    assert server.http.get("/health").json() == {"status": "ok", "paused": False}
    complete(server, n=2)
    after = metrics(server)
    name = 'requests_total{path="/v1/completions",outcome="done"}'
    assert after[name] - before.get(name, 0) == 1 and after["samples_in_flight"] == 0
    assert after["completion_tokens_total"] - before["completion_tokens_total"] == 24
    assert after["engine_tokens_total"] - before["engine_tokens_total"] == 24
    assert after["policy_version"] == front.version and after["paused"] == 0


def metrics(server):
    """{name: value}; every line is a comment or a sample of Prometheus' text format."""
    values = {}
    for line in server.http.get("/metrics").text.splitlines():
        if not line.startswith("#"):
            name, value = re.fullmatch(r"jaxrl_moe_(\w+(?:\{[^}]*\})?) (\S+)", line).groups()
            values[name] = float(value)
    return values


def test_every_call_is_recorded_with_its_exact_tokens(front, tokenizer, tmp_path):
    with serving(front, tokenizer, recorder=Recorder(tmp_path / "calls.jsonl")) as server:
        whole = complete(server, [IDS, IDS[:2]], n=2, user="episode 3", stop=["zzz"])
        chat = server.openai.chat.completions.create(**CHAT | {"seed": None}, logprobs=True, stream=True,
                                                     extra_body=RAW)
        parts = [event.choices[0] for event in chat]
    rows = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert [row["prompt_ids"] for row in rows[:2]] == [IDS, IDS[:2]] and {row["id"]
                                                                          for row in rows[:2]} == {whole.id}
    recorded = [completion for row in rows[:2] for completion in row["completions"]]
    for choice, completion in zip(whole.choices, recorded, strict=True):
        assert (choice.token_ids, choice.policy_version) == (completion["ids"], completion["policy_version"])
        assert choice.logprobs.token_logprobs == completion[
            "logprobs"] and choice.finish_reason == completion["finish_reason"]
    assert rows[0]["user"] == "episode 3" and rows[0]["sampling"]["stop_strings"] == [
        "zzz"
    ] and rows[0]["step"] == front.version
    assert rows[2]["completions"][0]["ids"] == [i for part in parts for i in part.token_ids]
    again = front.generate([
        seeded(np.array(rows[2]["prompt_ids"], np.int32), sampling(ChatRequest(**CHAT), 12), rows[2]["seed"])
    ])
    # the recorded seed draws the same tokens
    assert again[0][0].ids.tolist() == rows[2]["completions"][0]["ids"]
