"""Fields that people's clients send: what changes nothing passes, what would is honoured or refused."""
import json

import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_params

from jaxrl_moe.serving.openai.neutral import LABELS, ROWS
from tests.helpers.serving import serving
from tests.helpers.tiny_tokenizers import byte_fallback

TEXT = {"model": "tiny", "prompt": [5, 17, 100], "max_tokens": 2, "seed": 1}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "What is 1 + 2?"}], "max_tokens": 2}
REQUIRED = {"model", "prompt", "messages", "stream"}
NEEDS_OTHERS = {"stream_options"}
# As lm-evaluation-harness, litellm, langchain and inspect-ai send them, and clients made for vLLM and SGLang.
SENT = [
    ("completions", {"stop": ["\n\n", "<|im_end|>"], "temperature": 0, "seed": 1234}),
    ("completions", {"stop": ["Question:", "<|endoftext|>"]}),
    ("completions", {"ignore_eos": False, "min_tokens": 0, "skip_special_tokens": True, "detokenize": True,
                     "spaces_between_special_tokens": True, "include_stop_str_in_output": False,
                     "echo": False, "use_beam_search": False, "length_penalty": 1.0, "prompt_logprobs": None,
                     "guided_json": None, "guided_regex": None, "guided_choice": None, "logit_bias": {},
                     "best_of": 1, "priority": 0, "response_format": {"type": "text"}, "top_k": -1,
                     "structured_outputs": None, "min_p": 0.0, "repetition_penalty": 1.0,
                     "truncate_prompt_tokens": None, "add_special_tokens": False}),
    ("completions", {"n": 2, "best_of": 2}),
    ("completions", {"presence_penalty": 0.0, "frequency_penalty": 0, "suffix": "", "user": "u"}),
    ("chat/completions", {"messages": [{"role": "user", "content": "Q: 1", "type": "text"}], "seed": 1234}),
    ("chat/completions", {"service_tier": "auto", "metadata": {"run": "1"}, "reasoning": None, "store": False,
                          "reasoning_effort": None, "modalities": ["text"], "prediction": None, "audio": None,
                          "response_format": {"type": "text"}, "parallel_tool_calls": True, "tools": [],
                          "tool_choice": "auto", "functions": [], "function_call": None, "logprobs": False,
                          "top_logprobs": None, "verbosity": "medium", "safety_identifier": "s",
                          "prompt_cache_key": "k", "web_search_options": None, "logit_bias": None}),
    ("chat/completions", {"separate_reasoning": False, "stream_reasoning": True, "no_stop_trim": False,
                          "regex": None, "ebnf": None, "stop_regex": None, "rid": None, "lora_path": None,
                          "documents": None, "add_generation_prompt": True, "mm_processor_kwargs": {},
                          "bad_words": []}),
    ("chat/completions", {"stream": True, "stream_options": {
        "include_usage": True, "include_obfuscation": False, "continuous_usage_stats": False}}),
    ("chat/completions", {"tools": [{"type": "function", "function": {
        "name": "f", "description": None, "parameters": None, "strict": None}}]})]
REFUSED = [
    ("completions", {"ignore_eos": True}), ("completions", {"min_tokens": 5}),
    ("completions", {"skip_special_tokens": False}), ("completions", {"include_stop_str_in_output": True}),
    ("completions", {"use_beam_search": True}), ("completions", {"length_penalty": 0.5}),
    ("completions", {"guided_json": {}}), ("completions", {"guided_choice": ["a"]}),
    ("completions", {"best_of": 2}), ("completions", {"priority": 1}),
    ("completions", {"prompt_logprobs": 0}), ("completions", {"logit_bias": {"5": -100}}),
    ("completions", {"add_special_tokens": True}), ("completions", {"echo": True}),
    ("completions", {"ignore_eos": 0}), ("completions", {"frequency_penalty": False}),
    ("completions", {"n": 3, "best_of": 2}), ("completions", {"response_format": {"type": "json_object"}}),
    ("chat/completions", {"reasoning_effort": "high"}), ("chat/completions", {"service_tier": "flex"}),
    ("chat/completions", {"modalities": ["text", "audio"]}), ("chat/completions", {"verbosity": "low"}),
    ("chat/completions", {"functions": [{"name": "f"}]}), ("chat/completions", {"separate_reasoning": True}),
    ("chat/completions", {"metadata": {"a": 1}}), ("chat/completions", {"store": True}),
    ("chat/completions", {"response_format": {"type": "json_schema", "json_schema": {}}})]


def post(server, path, fields):
    return server.http.post(f"/v1/{path}", json=(CHAT if path.startswith("chat") else TEXT) | fields)


@pytest.mark.parametrize("path, fields", SENT)
def test_what_clients_send_without_meaning_anything_by_it_passes(server, path, fields):
    answer = post(server, path, fields)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path, fields", REFUSED)
def test_what_would_have_an_effect_is_refused_by_name(server, path, fields):
    answer = post(server, path, fields)
    name = list(fields)[-1]
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["message"].startswith(name) and error["param"] == name, error


@pytest.mark.parametrize("path, params", [("completions", completion_create_params),
                                          ("chat/completions", chat_params)])
def test_null_passes_for_every_field_that_the_openai_client_knows(server, path, params):
    names = params.CompletionCreateParamsBase.__annotations__.keys() - REQUIRED
    answer = post(server, path, dict.fromkeys(names))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
def test_null_passes_for_every_field_that_is_known_and_all_neutral_values_do(server, path):
    assert post(server, path, dict.fromkeys([*ROWS, *LABELS, "metadata"])).status_code == 200
    neutral = {name: values[-1] for name, (values, _) in ROWS.items() if values}
    assert post(server, path, neutral).status_code == 200


def test_a_special_token_among_the_stop_strings_ends_completions_as_its_id_does(front, tokenizer):
    """The end token among them, which does so anyway."""
    with serving(front, tokenizer) as server:
        for stop, number in (("<|im_end|>", 2), ("<|im_start|>", 1), ("<|endoftext|>", 0)):
            fields = {"max_tokens": 40, "return_token_ids": True, "n": 4}
            by_name = post(server, "completions", fields | {"stop": [stop, "zzz"]}).json()
            by_id = post(server, "completions", fields | {"stop_token_ids": [number], "stop": "zzz"}).json()
            assert [choice["token_ids"] for choice in by_name["choices"]] == [
                choice["token_ids"] for choice in by_id["choices"]]
        refused = post(server, "completions", {"stop": "x<|im_end|>"})
        assert refused.status_code == 400 and "im_end" in refused.text


@pytest.mark.parametrize("stream", [False, True])
def test_offsets_of_characters_that_several_tokens_spell_reach_the_client(stream):
    """`a😀bc`, by a tokenizer that spells the second character in four tokens."""
    from jaxrl_moe.data.tokenizer import Tokenizer
    from jaxrl_moe.serving.front import EngineFront
    from tests.helpers.scripted_texts import Scripted
    tokenizer = Tokenizer(byte_fallback(strip=False), "tiny")
    with EngineFront(Scripted(tokenizer, "a😀bc")) as front, serving(front, tokenizer) as server:
        answer = post(server, "completions", {"prompt": [5], "logprobs": 0, "stream": stream})
    if stream:
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    else:
        events = [answer.json()]
    choices = [event["choices"][0] for event in events]
    assert "".join(choice["text"] for choice in choices) == "a😀bc"
    assert [at for choice in choices for at in choice["logprobs"]["text_offset"]] == [0, 1, 1, 1, 1, 2, 3, 4]
    assert [name for choice in choices for name in choice["logprobs"]["tokens"]][-3:] == ["b", "c", "</s>"]
