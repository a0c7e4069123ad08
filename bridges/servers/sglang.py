"""SGLang's server, 0.5.23: token ids through /generate, weights through /update_weights_from_disk.

Its log-probs are those of softmax(logits / temperature) before top-p and its like, as long as the server's
environment does not set SGLANG_RETURN_ORIGINAL_LOGPROB.
"""
import base64
import contextlib
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from bridges.servers.buckets import Bucket
from bridges.servers.group import BroadcastGroup
from bridges.servers.http import EngineError, Refused, Unavailable
from bridges.servers.receiver import LOADING_SECONDS, Weights
from bridges.servers.server import DrawnSample, Server, array
from jaxrl_moe.types import SamplingParams


class Sglang(Server):
    kind = "sglang"

    def _draw(self, ids: list[int], params: SamplingParams, weights: Weights | None, seed: int,
              stop_ids: list[int], timeout: float | None) -> list[DrawnSample]:
        sampling = {
            "n": params.n,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k or -1,
            "min_p": params.min_p,
            "max_new_tokens": params.max_tokens,
            "stop": list(params.stop_strings) or None,
            "stop_token_ids": stop_ids,
            "no_stop_trim": True,
            "sampling_seed": seed
        }
        body = {"input_ids": ids, "sampling_params": sampling, "return_logprob": True,
                "return_routed_experts": params.return_routed_experts}
        if weights and weights.adapter:
            body["lora_path"] = weights.label
        answer = self.http.post("/generate", body, timeout=timeout)
        return [self._sample(drawn) for drawn in (answer if isinstance(answer, list) else [answer])]

    def context(self):
        return int(self.http.get("/v1/models")["data"][0]["max_model_len"])

    def check(self, adapter: bool, routes: bool = False):
        settings = self.http.get("/get_server_info")
        if routes and not settings.get("enable_return_routed_experts"):
            raise EngineError(f"The SGLang server {self.url} does not return the experts' routes: start it "
                              "with --enable-return-routed-experts, or set moe.replay=r2.")
        if adapter and not settings.get("enable_lora"):
            raise EngineError(f"The SGLang server {self.url} serves no adapters: start it with "
                              "--enable-lora, --max-lora-rank, --lora-target-modules and "
                              "--max-loras-per-batch 2, or set servers.weight_sync_backend=disk.")

    def label(self):
        return str(self.http.get("/get_model_info")["weight_version"])

    def workers(self):
        settings = self.http.get("/get_server_info")
        return int(settings["tp_size"]) * int(settings.get("pp_size") or 1)

    def _label(self, label: str):
        self._done(
            self.http.post("/update_weight_version", {
                "new_version": label,
                "abort_all_requests": False
            }, repeatable=True))

    def _pause(self):
        """retract: running requests give up their KV cache, which is computed anew from the new weights."""
        self.http.post("/pause_generation", {"mode": "retract" if self.in_flight == "resume" else "abort"},
                       timeout=LOADING_SECONDS, repeatable=True)

    def _resume(self):
        self.http.post("/continue_generation", {}, repeatable=True)

    def _drop_cache(self):
        self.http.post("/flush_cache", repeatable=True)

    def _load_adapter(self, weights: Weights):
        self._done(
            self.http.post("/load_lora_adapter", {
                "lora_name": weights.label,
                "lora_path": weights.folder
            }, timeout=LOADING_SECONDS))

    def _replace(self, folders: Iterable[pathlib.Path]):
        for folder in folders:
            self._done(self.http.post("/update_weights_from_disk", timeout=LOADING_SECONDS,
                                      body={"model_path": str(folder), "flush_cache": False}))

    def _join(self, group: BroadcastGroup):
        self._update("/init_weights_update_group", master_address=group.address, master_port=group.port,
                     rank_offset=1, world_size=group.size, group_name=group.name, backend=group.backend)

    def _receive(self, buckets: Iterable[Bucket], group: BroadcastGroup):
        with contextlib.suppress(Unavailable):
            # closes the one that a sync which ended half-way left open; there is none as a rule
            self._update("/end_weight_update")
        self._update("/begin_weight_update")
        try:
            for bucket in buckets:
                group.broadcast(
                    bucket, lambda names, dtypes, shapes: self.
                    _update("/update_weights_from_distributed", names=names, dtypes=dtypes, shapes=shapes,
                            group_name=group.name, load_format="flattened_bucket", flush_cache=False))
        finally:
            self._update("/end_weight_update")

    def _update(self, path: str, **body):
        """SGLang answers 400 to whatever goes wrong here, be it a connection: another try may do better."""
        try:
            self._done(self.http.post(path, body, timeout=LOADING_SECONDS))
        except Refused as error:
            raise Unavailable(str(error)) from error

    def unload(self, label: str):
        self.http.post("/unload_lora_adapter", {"lora_name": label})

    def _done(self, answer: dict[str, Any]):
        if not answer.get("success"):
            raise Unavailable(f"{self.url} could not load the weights: "
                              f"{answer.get('message') or answer.get('error_message')}")

    def _sample(self, drawn: dict[str, Any]) -> DrawnSample:
        meta = drawn["meta_info"]
        rows = meta["output_token_logprobs"]
        ids = array(drawn["output_ids"], "int32")
        if [row[1] for row in rows] != ids.tolist():
            raise ValueError("log-probs of other tokens than those drawn")
        spans = tuple((span["version"], span["start"], span["end"]) for span in meta["weight_versions"] or ())
        logprobs = array([row[0] for row in rows], "float32")
        reason = meta["finish_reason"]["type"]
        return DrawnSample(ids, logprobs, reason, spans, self._routes(meta))

    def _routes(self, meta: dict[str, Any]):
        """[tokens - 1, L, A] of base64; the server has a row for dense layers too."""
        if not meta.get("routed_experts"):
            return None
        flat = np.frombuffer(base64.b64decode(meta["routed_experts"]), np.int32)
        layers = self.config.sparse_layers
        return flat.reshape(-1, len(layers), self.config.num_experts_per_tok)[:, np.asarray(layers)]
