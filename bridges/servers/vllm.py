"""vLLM's server, 0.32: token ids through /inference/v1/generate, weights through its weight-transfer
endpoints.

Its log-probs are those of softmax(logits) by default; under --logprobs-mode processed_logprobs they are those
of the tempered distribution, renormalised over what top-p and its like leave, which is why those are refused
with vLLM.
"""
import contextlib
import pathlib
from collections.abc import Iterable
from typing import Any

from bridges.servers.buckets import Bucket
from bridges.servers.group import BroadcastGroup
from bridges.servers.http import EngineError, Refused, Unavailable
from bridges.servers.receiver import LOADING_SECONDS, Weights
from bridges.servers.server import DrawnSample, Server, array
from jaxrl_moe.types import SamplingParams

GENERATE = "/inference/v1/generate"


class Vllm(Server):
    kind = "vllm"

    def _draw(self, ids: list[int], params: SamplingParams, weights: Weights | None, seed: int,
              stop_ids: list[int], timeout: float | None) -> list[DrawnSample]:
        sampling = {
            "n": params.n,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
            "min_p": params.min_p,
            "max_tokens": params.max_tokens,
            "stop": list(params.stop_strings) or None,
            "stop_token_ids": stop_ids,
            "ignore_eos": True,  # what ends a completion is said by stop_token_ids alone
            "logprobs": 0,
            "seed": seed,
            "detokenize": bool(params.stop_strings)
        }
        model = weights.label if weights and weights.adapter else self._model()
        answer = self.http.post(GENERATE, {
            "model": model,
            "token_ids": ids,
            "sampling_params": sampling
        }, timeout=timeout)
        return [_sample(choice) for choice in sorted(answer["choices"], key=lambda choice: choice["index"])]

    def context(self):
        return int(self._base()["max_model_len"])

    def check(self, adapter: bool, routes: bool = False):
        if routes:
            raise EngineError("The experts' routes are not read from vLLM servers: set moe.replay=r2, or "
                              "rollout.backend=sglang or jax.")
        paths = self.http.get("/openapi.json")["paths"]
        needed = {GENERATE: "--enable-scale-out"}
        if adapter:
            runtime = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment"
            needed["/v1/load_lora_adapter"] = f"--enable-lora and {runtime}"
        else:
            needed["/start_weight_update"] = "VLLM_SERVER_DEV_MODE=1 in its environment"
        missing = [mend for path, mend in needed.items() if path not in paths]
        if missing:
            raise EngineError(f"The vLLM server {self.url} lacks what rollouts need: start it with "
                              f"{', and '.join(missing)}.")
        if not adapter:
            self._open_transfer()

    def label(self):
        return str(self.http.get("/weight_info")["weight_version"])

    def workers(self):
        return int(self.http.get("/get_world_size")["world_size"])

    def _label(self, label: str):
        self.http.post("/update_weight_version", {"new_version": label}, repeatable=True)

    def _pause(self):
        self.http.post(f"/pause?mode={'keep' if self.in_flight == 'resume' else 'abort'}",
                       timeout=LOADING_SECONDS, repeatable=True)

    def _resume(self):
        self.http.post("/resume", repeatable=True)

    def _drop_cache(self):
        """Paused requests give up their KV cache too, which is computed anew from the new weights."""
        answer = self.http.post("/reset_prefix_cache?reset_running_requests=true", repeatable=True)
        if not answer["success"]:
            raise Unavailable(f"{self.url} did not drop the prefix cache of the old weights")

    def _load_adapter(self, weights: Weights):
        self.http.post("/v1/load_lora_adapter", {
            "lora_name": weights.label,
            "lora_path": weights.folder
        }, timeout=LOADING_SECONDS)

    def _replace(self, folders: Iterable[pathlib.Path]):
        with self._update():
            for folder in folders:
                self._send({"path": str(folder)})

    def _join(self, group: BroadcastGroup):
        self.http.post(
            "/init_weight_transfer_engine", timeout=LOADING_SECONDS, body={
                "init_info": {
                    "address": group.address,
                    "port": group.port,
                    "size": group.size,
                    "name": group.name,
                    "backend": group.backend
                }
            })

    def _receive(self, buckets: Iterable[Bucket], group: BroadcastGroup):
        with self._update():
            for bucket in buckets:
                group.broadcast(bucket, lambda names, dtypes, shapes: self._send(
                    {"names": names, "dtypes": dtypes, "shapes": shapes, "group": group.name}))

    @contextlib.contextmanager
    def _update(self):
        """Between the start of an update and its end; one that is given up leaves layers half loaded, which
        the next start mends."""
        self._open_transfer()
        try:
            self.http.post("/start_weight_update", timeout=LOADING_SECONDS)
        except Unavailable:  # a sync that ended half-way may have left it open
            self._give_up()
            self.http.post("/start_weight_update", timeout=LOADING_SECONDS)
        try:
            yield
        except BaseException:
            self._give_up()
            raise
        self.http.post("/finish_weight_update", {}, timeout=LOADING_SECONDS)

    def _give_up(self):
        """vLLM ends an update that fails, and has no other way to end one."""
        with contextlib.suppress(EngineError, Unavailable):
            self._send({})

    def _send(self, update: dict[str, Any]):
        self.http.post("/update_weights", {"update_info": update}, timeout=LOADING_SECONDS)

    def unload(self, label: str):
        self.http.post("/v1/unload_lora_adapter", {"lora_name": label})

    def _open_transfer(self):
        """Opens the weight transfer; more than once does no harm."""
        try:
            self.http.post("/init_weight_transfer_engine", {"init_info": {}}, repeatable=True)
        except Refused as error:
            raise EngineError(f"{error} Start the vLLM server with our worker: --worker-extension-cls "
                              "jaxrl_vllm_worker.Extension --weight-transfer-config '{\"backend\": "
                              "\"jaxrl\"}', and the folder bridges/servers/worker on its "
                              "PYTHONPATH.") from error

    def _base(self):
        """The served model, adapters aside."""
        return next(model for model in self.http.get("/v1/models")["data"] if not model.get("parent"))

    def _model(self):
        if not hasattr(self, "_name"):
            self._name = self._base()["id"]
        return self._name


def _sample(choice: dict[str, Any]) -> DrawnSample:
    rows = choice["logprobs"]["content"]
    ids = array(choice["token_ids"], "int32")
    if [row["token_id"] for row in rows] != ids.tolist():
        raise ValueError("log-probs of other tokens than those drawn")
    spans = tuple((span["version"], span["start"], span["end"]) for span in choice["weight_versions"] or ())
    logprobs = array([row["logprob"] for row in rows], "float32")
    return DrawnSample(ids, logprobs, choice["finish_reason"], spans)
