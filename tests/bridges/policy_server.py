"""A server in the engines' recorded shapes that computes: it loads the weights it is sent, and draws by the request's seed."""
import threading

import numpy as np
from flax import nnx

import bridges
from jaxrl_moe.config import RolloutSection
from jaxrl_moe.rollout.engine import JaxEngine
from jaxrl_moe.types import Request, SamplingParams
from tests.bridges.fake_server import SHAPES, FakeServer

SECTION = RolloutSection(slots=8, page_size=16, max_tokens=64, decode_steps=8)


class PolicyServer(FakeServer):
    """Equal requests have equal answers, whatever it was asked before.

    Attributes:
      given: [(seed, prompt)] of the draws that were answered.
    """
    context = 128

    def __init__(self, kind, checkpoint):
        self._model, self._lock, self.given = bridges.load_model(checkpoint), threading.Lock(), []
        self._engine = JaxEngine(self._model, SECTION, max_prompt_tokens=64, seed=0)
        super().__init__(kind)

    def loaded(self, folder):
        with self._lock:
            self._engine.publish(nnx.state(bridges.load_model(folder)), 0)

    def samples(self, prompt, sampling):
        seed = sampling.get("seed", sampling.get("sampling_seed"))
        params = SamplingParams(sampling.get("max_tokens") or sampling["max_new_tokens"], sampling["temperature"], n=sampling["n"],
                                stop_ids=tuple(sampling["stop_token_ids"]), stop_strings=())
        with self._lock:
            [drawn] = self._engine.generate([Request(np.array(prompt, np.int32), params, seed)])
            self.given.append((seed, tuple(prompt)))
        return [(one.ids.tolist(), one.logprobs.tolist(), one.finish_reason) for one in drawn]

    def answer(self, prompt, sampling, label):
        drawn = []
        for index, (ids, logprobs, reason) in enumerate(self.samples(prompt, sampling)):
            one = SHAPES[self.kind](ids, logprobs, label, 1)
            if self.kind == "vllm":
                drawn.append(one["choices"][0] | {"index": index, "finish_reason": reason})
            else:
                one["meta_info"]["finish_reason"]["type"] = reason
                drawn.append(one)
        return {"choices": drawn} if self.kind == "vllm" else drawn
