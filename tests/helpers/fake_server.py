"""A small HTTP server that answers in the shapes that vLLM 0.32 and SGLang 0.5.23 were recorded with, and
fails on demand."""
import base64
import collections
import itertools
import json
import pathlib
import threading
import time

import numpy as np
import pytest

from bridges.engines import pool
from bridges.hf.tensor_files import TensorReader
from bridges.servers import http as client
from tests.helpers.fakes import Call, Fake, drip, send

VOCAB = 50
LOADS = ("/update_weights", "/update_weights_from_disk", "/init_weights_update_group",
         "/v1/load_lora_adapter", "/load_lora_adapter")


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """Servers that fail are asked again soon."""
    monkeypatch.setattr(client, "BUSY_SECONDS", 0.01)
    monkeypatch.setattr(pool, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(pool, "RETRY_SECONDS", 0.05)


class FakeServer(Fake):
    """Draws the prompt's first token over and over, each with log-prob -1; ends by its own thread.

    Attributes:
      fault: what goes wrong with draws: "", "500", "429", "truncated", "slow", "hang", "drip", "nan",
        "short", "stale", "refuse", "reset".
      load_fault: what goes wrong with new weights: "", "500", "refuse", "garbage"; or a number: how many
        loads are taken before a 500.
      token_seconds: that a token takes; it bears the label that the weights have then.
      most: tokens that a draw has of one label at most: then it waits for other weights; None: any number.
      labelled: {label: how many tokens bear it, of all draws}.
      tensors: {name: array} of all that was loaded.
      asked: [(path, body, headers)] in order.
      drawn: draws that were answered in full.
      label: of its weights.
      workers: if it is a router: the servers behind it, as (URL, kind).
    """
    context = 64

    def __init__(self, kind):
        self.kind = kind
        self.fault = ""
        self.load_fault = ""
        self.up = True
        self.label = "default"
        self.asked = []
        self.drawn = 0
        self.busy = 0
        self.adapters = set()
        self.token_seconds = 0.0
        self.tensors = {}
        self.drawing = 0
        self.aborts = 0
        self.running = threading.Event()
        self.workers = None
        self.most = None
        self.labelled = collections.Counter()
        self.running.set()
        outer = self

        class Handler(Call):
            def do_GET(self):
                outer.handle(self, None)

            def do_POST(self):
                outer.handle(self, self.read())

        self.listen(Handler)

    def handle(self, request, body):
        path = request.path.split("?")[0]
        self.asked.append((path, body, dict(request.headers)))
        if not self.up or path == "/health":
            return send(request, 200 if self.up else 503, {})
        if path == "/workers":
            known = [{
                "id": "1",
                "url": url,
                "worker_type": kind,
                "is_healthy": True
            } for url, kind in self.workers or ()]
            return send(request, 404 if self.workers is None else 200, {
                "workers": known,
                "total": len(known)
            })
        if path in ("/inference/v1/generate", "/generate"):
            return self._draw(request, body)
        if path in LOADS:
            return self._load(request, path, body)
        if path in ("/v1/unload_lora_adapter", "/unload_lora_adapter"):
            gone = body["lora_name"] not in self.adapters
            self.adapters.discard(body["lora_name"])
            return send(request, 404 if gone else 200,
                        {"error": "no such adapter"} if gone else {"success": True})
        if path == "/update_weight_version":
            self.label = body["new_version"]
        if path in ("/pause", "/pause_generation"):
            self.running.clear()
            self.aborts += "abort" in request.path or "abort" in str(body)
        if path in ("/resume", "/continue_generation"):
            self.running.set()
        return send(
            request, 200, {
                "/openapi.json": {
                    "paths": dict.fromkeys(
                        ("/inference/v1/generate", "/v1/load_lora_adapter", "/start_weight_update"), {})
                },
                "/get_server_info": {
                    "enable_lora": True,
                    "tp_size": 1
                },
                "/get_world_size": {
                    "world_size": 1
                },
                "/weight_info": {
                    "weight_version": self.label
                },
                "/get_model_info": {
                    "weight_version": self.label
                },
                "/v1/models": {
                    "data": [{
                        "id": "policy",
                        "parent": None,
                        "max_model_len": self.context
                    }]
                }
            }.get(path, {"success": True}))

    def loaded(self, folder):
        """New weights are there."""

    def answer(self, prompt, sampling, labels, reason):
        """What a draw is answered with, as many tokens as there are labels of weights."""
        return SHAPES[self.kind]([prompt[0]] * len(labels), [-1.0] * len(labels), spans(labels),
                                 sampling["n"], reason)

    def _load(self, request, path, body):
        if isinstance(self.load_fault, int):
            self.load_fault = self.load_fault - 1 if self.load_fault else "500"
        if self.load_fault == "garbage":
            return send(request, 200, [])
        if self.load_fault and isinstance(self.load_fault, str):
            return send(request, 500 if self.load_fault == "500" else 400,
                        {"error": {"message": "no such folder"}})
        if "lora" in path and body["lora_name"] in self.adapters:
            return send(request, 400, {"error": {"message": f"{body['lora_name']} has already been loaded"}})
        self.loaded(body.get("lora_path") or body.get("model_path") or body["update_info"]["path"])
        if "lora" in path:
            self.adapters.add(body["lora_name"])
        else:
            for file in pathlib.Path(body.get("model_path")
                                     or body["update_info"].get("path", "")).glob("*.safetensors"):
                reader = TensorReader(file)
                self.tensors |= {name: np.array(reader[name]) for name in reader.infos}
        return send(request, 200, {"success": True, "message": ""})

    def _draw(self, request, body):
        sampling = body["sampling_params"]
        fault = self.fault
        model = body.get("lora_path") or body.get("model", "policy")
        if model != "policy" and model not in self.adapters:
            return send(request, 404, {"error": {"message": f"The model {model} does not exist"}})
        count = sampling.get("max_tokens") or sampling["max_new_tokens"]
        prompt = body.get("token_ids") or body["input_ids"]
        labels, reason = self._labels(count, "stale" if fault == "stale" else "")
        answer = self.answer(prompt, sampling, labels, reason)
        if body.get("return_routed_experts"):  # [tokens - 1, 3 layers, 2 experts]
            routes = [[3 * token + layer, 100] for token in range(len(prompt) + count - 1)
                      for layer in range(3)]
            for one in answer:
                one["meta_info"]["routed_experts"] = base64.b64encode(np.array(routes,
                                                                               np.int32).tobytes()).decode()
        if fault == "nan":
            if self.kind == "vllm":
                answer["choices"][0]["logprobs"]["content"][-1]["logprob"] = float("nan")
            else:
                answer[0]["meta_info"]["output_token_logprobs"][-1][0] = float("nan")
        if fault == "short":
            (answer["choices"][0] if self.kind == "vllm" else
             answer[0])["token_ids" if self.kind == "vllm" else "output_ids"].pop()
        data = json.dumps(answer).encode()
        if fault == "slow":
            time.sleep(1)
        if fault == "hang":
            time.sleep(30)
        elif fault == "500":
            send(request, 500, {"error": {"message": "engine core died"}})
        elif fault == "refuse":
            send(request, 400, {"error": {"message": "too long"}})
        elif fault == "429" and self.busy < 2:
            self.busy += 1
            send(request, 429, {"error": "busy"})
        elif fault == "truncated":
            send(request, 200, None, data[:len(data) // 2])
        elif fault == "reset":
            request.close_connection = True
        elif fault == "drip":
            drip(request, data)
        else:
            self.drawn += 1
            send(request, 200, None, data)

    def _labels(self, count, stale):
        """([the label of each token], why it ended): drawn one by one, held up by a pause, or cut short."""
        labels = []
        aborts = self.aborts
        self.drawing += 1
        while len(labels) < count:
            time.sleep(self.token_seconds)
            if self.aborts > aborts:
                break
            self.running.wait()
            label = stale or self.label
            if self.most is None or labels.count(label) < self.most:
                labels.append(label)
                self.labelled[label] += 1
        self.drawing -= 1
        return labels, "length" if len(labels) == count else "abort"


def spans(labels):
    """[{"version", "start", "end"}] of runs of equal labels."""
    starts = [number for number, label in enumerate(labels) if not number or labels[number - 1] != label]
    return [{
        "version": labels[start],
        "start": start,
        "end": end
    } for start, end in itertools.pairwise([*starts, len(labels)])]


def vllm_shape(ids, logprobs, versions, n, reason):
    return {
        "request_id": "generate-tokens-1",
        "model": "policy",
        "usage": {},
        "prompt_logprobs": None,
        "output_mode": "tokens",
        "choices": [{
            "index": index,
            "finish_reason": reason,
            "stop_reason": None,
            "token_ids": ids,
            "routed_experts": None,
            "weight_versions": versions,
            "logprobs": {
                "content": [{
                    "token_id": token,
                    "logprob": value,
                    "rank": 1,
                    "top_logprobs": []
                } for token, value in zip(ids, logprobs)]
            }
        } for index in reversed(range(n))]
    }


def sglang_shape(ids, logprobs, versions, n, reason):
    one = {
        "text": "",
        "output_ids": ids,
        "meta_info": {
            "id": "1",
            "finish_reason": {
                "type": reason,
                "length": len(ids)
            },
            "prompt_tokens": 6,
            "weight_version": versions[-1]["version"] if versions else "default",
            "input_token_logprobs": [],
            "output_token_logprobs": [[value, token, None] for token, value in zip(ids, logprobs)],
            "completion_tokens": len(ids),
            "weight_versions": versions
        }
    }
    return one if n == 1 else [one] * n


SHAPES = {"vllm": vllm_shape, "sglang": sglang_shape}
