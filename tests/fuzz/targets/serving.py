"""Bodies and requests over HTTP: never a server's error, and the next ordinary request is answered."""
import contextlib
import json
import pathlib
import random
from collections.abc import Callable
from typing import Any

import bridges
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.engine.requests import Limits
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.serving.openai.app import make_app
from jaxrl_moe.serving.openai.models import Models
from jaxrl_moe.serving.openai.service import Service
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.types import UserError
from tests.fuzz.reading import Damaged, broken, number, strict, text, truth, whole
from tests.fuzz.runner import Wrong
from tests.fuzz.targets.http import HttpTarget
from tests.fuzz.targets.rows import leaves
from tests.helpers.scripted_texts import Scripted
from tests.helpers.tiny_models import CHAT_TEMPLATE, make_checkpoint, make_tokenizer

TEXT = "Let me see. <tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call> #### 17"
TOOL = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer"}}}}}
TOOLS = "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"
CHAT = {"model": "tiny", "return_token_ids": True, "messages": [{"role": "system", "content": "Be brief."},
                                      {"role": "user", "content": [{"type": "text", "text": "12 + 7?"}]}]}
BODIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/completions", {"model": "tiny", "prompt": "What is 12?", "max_tokens": 40, "n": 2,
    "temperature": 0.7,
                         "top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": 3, "stop": ["18"], "logprobs": 0}),
    ("/v1/completions", {"model": "tiny", "prompt": [[5, 17], [42]], "max_tokens": 40,
                         "stop_token_ids": [7], "return_token_ids": True, "echo": False, "user": "Ann"}),
    ("/v1/completions", {"model": "tiny", "prompt": ["Tom", "Anna"], "max_tokens": 40, "stream": True,
                         "stream_options": {"include_usage": True}}),
    ("/v1/chat/completions", CHAT | {"max_tokens": 40, "logprobs": True, "top_logprobs": 0, "n": 1}),
    ("/v1/chat/completions", CHAT | {"max_completion_tokens": 40, "stream": True, "stop": "18",
                                     "response_format": {"type": "text"}}),
    ("/v1/chat/completions", CHAT | {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": True,
                                     "chat_template_kwargs": {"mood": "glad"}}),
    ("/v1/chat/completions", {"model": "tiny", "max_tokens": 9, "return_token_ids": True, "messages": [
        {"role": "user", "content": "add"}, {"role": "assistant", "content": "", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 1}"}}]},
        {"role": "tool", "content": "2", "tool_call_id": "1"}]}),
    ("/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "/nowhere", "load_inplace": False}),
    ("/v1/unload_lora_adapter", {"lora_name": "a"}))
# Fields of other servers and of other ages of the interface.
FOREIGN: tuple[dict[str, Any], ...] = (
    {"functions": []}, {"logit_bias": {"5": -100}}, {"response_format": {"type": "json_object"}},
    {"guided_json": {}}, {"stop": [""]}, {"stop": []}, {"stop": ["a"] * 17}, {"n": 0}, {"n": 129},
    {"n": True},
    {"max_tokens": 0}, {"max_tokens": 10**9}, {"max_tokens": True}, {"temperature": -1}, {"temperature": "0"},
    {"temperature": 1e-6}, {"top_p": 0}, {"top_k": 1.5}, {"seed": 1.5}, {"seed": 2**64}, {"stream": "true"},
    {"logprobs": 5}, {"best_of": 3}, {"tool_choice": {"type": "function", "function": {"name": "add"}}},
    {"tool_choice": "required"}, {"messages": []}, {"prompt": []}, {"prompt": [[]]}, {"prompt": [1, "a"]},
    {"prompt": [320]}, {"prompt": [-1]}, {"prompt": [True]}, {"prompt": ""}, {"prompt": [5] * 5000},
    {"chat_template_kwargs": {"messages": []}}, {"chat_template_kwargs": {"tokenize": True}},
    {"chat_template_kwargs": {"mood": "\ud800"}}, {"chat_template": "{{ 7 * 7 }}"}, {"user": "\ud800"},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b",
                                                    "reasoning_content": "a thought"}]},
    {"messages": [{"role": "user", "content": "a", "name": "Ann Lee"}]}, {"max_tokens": None},
    {"messages": [{"role": "user", "content": None}]}, {"messages": [{"role": "assistant"}]},
    {"messages": [{"role": "user", "content": "\ud800"}]}, {"messages": [{"role": "robot", "content": "x"}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {
        "name": "f", "arguments": "[" * 100000}}]}]}, {"model": "other"}, {"model": "\ud800"},
    {"model": "x" * 100000}, {"lora_path": "\0"}, {"lora_path": "x" * 100000}, {"lora_name": "\ud800"})
PATHS = ("/v1/models/" + "a" * 3000, "/v1/models/%00", "/v1/models/%ff%fe", "/v1/models/../../etc/passwd",
         "//", "/docs", "/v1/completions?x=%zz", "/v1/models/tiny?x=1", "/openapi.json", "/v1/completions#x")
RULES = {"max_tokens": whole(), "n": whole(1, 128), "temperature": number(0, 100), "top_p": number(0, 1),
         "top_k": whole(-1), "min_p": number(0, 1), "stream": truth, "return_token_ids": truth, "user": text,
         "model": text, "logprobs": lambda value: True, "seed": lambda value: type(value) is int}


class HttpBodies(HttpTarget):
    """Requests to the endpoint."""
    name = "http"
    share = 1.5

    def prepare(self, inputs: pathlib.Path) -> None:
        make_checkpoint(inputs / "model", "qwen3", num_hidden_layers=1, max_position_embeddings=512)
        self.stack = contextlib.ExitStack()
        hf = make_tokenizer(inputs / "model")
        hf.chat_template = TOOLS + CHAT_TEMPLATE + "{{ mood }}"
        hf.save_pretrained(inputs / "model")
        self.tokenizer = load_tokenizer(str(inputs / "model"))
        engine = Scripted(self.tokenizer, TEXT)
        limits = Limits(bridges.model_config(inputs / "model"), 16, 256, True)
        engine.check = limits.check
        engine.context = limits.longest
        front = self.stack.enter_context(EngineFront(engine))

        def load(path: str) -> None:
            raise UserError(f"There is no folder {path!r}.")

        self.service = Service(front, self.tokenizer, Models(front, "tiny", "", load))
        self.server = self.stack.enter_context(HttpServer(self.service, self.app(), api_key="key", grace=1))
        self.request = ("POST", *BODIES[0][:1], json.dumps(BODIES[0][1]).encode(), {})
        self.listen()

    def app(self) -> Callable[[Service, str], Any]:
        """Makes the application."""
        return make_app

    def close(self) -> None:
        self.deafen()
        self.stack.close()

    def mutate(self, rng: random.Random, inputs: pathlib.Path):
        path, body = rng.choice(BODIES)
        odd = (path, path, path + "/", path.upper(), *PATHS)
        return {}, self.mutated(rng, path, body, FOREIGN, lambda: odd)

    def call(self, arena):
        self.caught.error = None
        answer = self.send(self.server.url, *self.request)
        if answer[0] >= 500:
            if self.caught.error is not None:
                raise self.caught.error
            raise Wrong(f"status {answer[0]}", str(answer[2][:300]))
        method, path, data = "POST", BODIES[0][0], json.dumps(BODIES[0][1]).encode()
        status, _, body = self.send(self.server.url, method, path, data, {})
        if status != 200:
            raise Wrong("the next ordinary request is not answered", f"{status} {body[:200]!r}")
        return answer

    def judge(self, arena, result):
        status, kind, body = result
        method, path, data, headers = self.request
        if kind == "closed" or method == "HEAD" or path in ("/docs", "/openapi.json", "//"):
            return ""
        if status >= 400:
            return misshapen(status, kind, body)
        if method != "POST" or path not in dict(BODIES):
            return ""
        try:
            sent = strict(data)
        except Damaged as error:
            return f"a damaged body was answered: {error}"
        wrong = broken(sent, RULES)
        if wrong:
            return wrong
        return _answered(sent, kind, body) or self._unheard(sent, body)

    def _unheard(self, sent: dict, body: bytes) -> str:
        """What of a chat the model was not shown, though it was taken."""
        if not sent.get("messages") or not sent.get("return_token_ids") or sent.get("stream"):
            return ""
        shown = self.tokenizer.decode(strict(body)["prompt_token_ids"], skip_special_tokens=False)
        for key, string in leaves(sent["messages"]):
            if key in ("content", "text", "name", "reasoning_content") and string not in shown:
                return f"a part of a message does not reach the prompt: {key} {string[:60]!r}"
        return ""


def misshapen(status: int, kind: str, body: bytes) -> str:
    """What is wrong with a refusal."""
    if kind.startswith("text/plain") and b"Invalid HTTP request" in body:
        return ""  # uvicorn's, before the application
    try:
        error = strict(body)["error"]
        right = isinstance(error["message"], str) and error["message"].strip() and isinstance(
            error["type"], str)
    except (Damaged, KeyError, TypeError):
        right = False
    if not right:
        return f"a refusal of another shape: {status} {kind} {body[:200]!r}"
    return "" if len(error["message"]) < 3000 else f"an endless refusal: {len(error['message'])} characters"


def _answered(sent: dict, kind: str, body: bytes) -> str:
    """What is wrong with an answer."""
    if sent.get("stream"):
        events = [event for event in body.decode().split("\n\n") if event]
        if not events or events[-1] != "data: [DONE]":
            return f"a stream without its end: {body[-200:]!r}"
        return "an error within a stream" if '"error"' in body.decode() else ""
    if "lora_name" in sent:
        return "an adapter that is not there was taken"
    answer = strict(body)
    prompts = sent.get("prompt")
    several = isinstance(prompts, list) and not isinstance(prompts[0], int)
    want = (sent.get("n") or 1) * (len(prompts) if several else 1)
    return "" if len(answer["choices"]) == want else f"{len(answer['choices'])} choices, not {want}"


TARGETS = (HttpBodies,)
