"""vLLM's server, 0.32: token ids through /inference/v1/generate, weights through its weight-transfer endpoints.

Its log-probs are those of softmax(logits) by default; under --logprobs-mode processed_logprobs they are those of the tempered
distribution, renormalised over what top-p and its like leave, which is why those are refused with vLLM.
"""
from bridges.engines.http import EngineError, Refused
from bridges.engines.server import Sample, Server, array

GENERATE = "/inference/v1/generate"
LOADING_SECONDS = 600.0


class Vllm(Server):
    kind = "vllm"

    def _draw(self, ids, params, weights, seed, stop_ids, timeout):
        sampling = {
            "n": params.n, "temperature": params.temperature, "top_p": params.top_p, "top_k": params.top_k, "min_p": params.min_p,
            "max_tokens": params.max_tokens, "stop": list(params.stop_strings) or None, "stop_token_ids": stop_ids,
            "ignore_eos": True,  # what ends a completion is said by stop_token_ids alone
            "logprobs": 0, "seed": seed, "detokenize": bool(params.stop_strings)}
        model = weights.label if weights and weights.adapter else self._model()
        answer = self.http.post(GENERATE, {"model": model, "token_ids": ids, "sampling_params": sampling}, timeout=timeout)
        return [_sample(choice) for choice in sorted(answer["choices"], key=lambda choice: choice["index"])]

    def context(self):
        return int(self._base()["max_model_len"])

    def check(self, adapter, routes=False):
        if routes:
            raise EngineError("The experts' routes are not read from vLLM servers: set moe.replay=r2, or rollout.backend=sglang or jax.")
        paths = self.http.get("/openapi.json")["paths"]
        needed = {GENERATE: "--enable-scale-out"}
        if adapter:
            needed["/v1/load_lora_adapter"] = "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment"
        else:
            needed["/start_weight_update"] = "VLLM_SERVER_DEV_MODE=1 in its environment"
        missing = [mend for path, mend in needed.items() if path not in paths]
        if missing:
            raise EngineError(f"The vLLM server {self.url} lacks what rollouts need: start it with {', and '.join(missing)}.")
        if not adapter:
            self._open_transfer()

    def load(self, weights):
        if weights.adapter:
            self.http.post("/v1/load_lora_adapter", {"lora_name": weights.label, "lora_path": weights.folder}, timeout=LOADING_SECONDS)
            return
        self._open_transfer()
        self.http.post("/pause?mode=wait", timeout=LOADING_SECONDS, repeatable=True)
        try:
            self.http.post("/start_weight_update", timeout=LOADING_SECONDS)
            self.http.post("/update_weights", {"update_info": {"path": weights.folder}}, timeout=LOADING_SECONDS)
            self.http.post("/finish_weight_update", {"weight_version": weights.label}, timeout=LOADING_SECONDS)
            self.http.post("/reset_prefix_cache", repeatable=True)
        finally:
            self.http.post("/resume", repeatable=True)

    def unload(self, label):
        self.http.post("/v1/unload_lora_adapter", {"lora_name": label})

    def _open_transfer(self):
        """Opens the weight transfer; more than once does no harm."""
        try:
            self.http.post("/init_weight_transfer_engine", {"init_info": {}}, repeatable=True)
        except Refused as error:
            raise EngineError(f"{error} Start the vLLM server with our worker: --worker-extension-cls jaxrl_vllm_worker.Extension "
                              "--weight-transfer-config '{\"backend\": \"disk\"}', and the folder bridges/engines/worker on its "
                              "PYTHONPATH.") from error

    def _base(self):
        """The served model, adapters aside."""
        return next(model for model in self.http.get("/v1/models")["data"] if not model.get("parent"))

    def _model(self):
        if not hasattr(self, "_name"):
            self._name = self._base()["id"]
        return self._name


def _sample(choice) -> Sample:
    rows = choice["logprobs"]["content"]
    ids = array(choice["token_ids"], "int32")
    if [row["token_id"] for row in rows] != ids.tolist():
        raise ValueError("log-probs of other tokens than those drawn")
    spans = tuple((span["version"], span["start"], span["end"]) for span in choice["weight_versions"] or ())
    return Sample(ids, array([row["logprob"] for row in rows], "float32"), choice["finish_reason"], spans)
