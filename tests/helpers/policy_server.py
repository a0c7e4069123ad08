"""A server in the engines' recorded shapes that computes: it loads the weights it is sent, and draws by the
request's seed."""
import pathlib
import shutil
import tempfile
import threading

import numpy as np
from flax import nnx
from safetensors.numpy import load_file, save_file

import bridges
from jaxrl_moe.config import RolloutSection
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.types import Request, SamplingParams
from tests.helpers.fake_server import SHAPES, FakeServer, spans

SECTION = RolloutSection(slots=8, page_size=16, max_tokens=64, decode_steps=8)


class PolicyServer(FakeServer):
    """Equal requests have equal answers, whatever it was asked before. Takes weights whole or in parts, and
    no adapters.

    Attributes:
      given: [(seed, prompt)] of the draws that were answered.
    """
    context = 128

    def __init__(self, kind, checkpoint):
        self._folder = pathlib.Path(tempfile.mkdtemp())
        shutil.copytree(checkpoint, self._folder, dirs_exist_ok=True)
        self._file = self._folder / "model.safetensors"
        self._tensors = load_file(self._file)
        self._lock = threading.Lock()
        self.given = []
        self._stale = False
        self._engine = JaxEngine(bridges.load_model(self._folder), SECTION, max_prompt_tokens=64, seed=0)
        super().__init__(kind)

    def close(self):
        super().close()
        shutil.rmtree(self._folder)

    def loaded(self, folder):
        with self._lock:
            found = load_file(pathlib.Path(folder) / "model.safetensors")
            assert found.keys() <= self._tensors.keys()
            self._tensors |= found
            self._stale = True

    def answer(self, prompt, sampling, labels, reason):
        drawn = []
        for index, one in enumerate(self._draws(prompt, sampling)):
            whole = SHAPES[self.kind](one.ids.tolist(), one.logprobs.tolist(),
                                      spans(labels[:1] * len(one.ids)), 1, one.finish_reason)
            drawn.append(whole["choices"][0] | {"index": index} if self.kind == "vllm" else whole)
        return {"choices": drawn} if self.kind == "vllm" else drawn

    def _draws(self, prompt, sampling):
        seed = sampling.get("seed", sampling.get("sampling_seed"))
        params = SamplingParams(
            sampling.get("max_tokens") or sampling["max_new_tokens"], sampling["temperature"],
            n=sampling["n"], stop_ids=tuple(sampling["stop_token_ids"]))
        with self._lock:
            if self._stale:
                save_file(self._tensors, self._file)
                self._engine.publish(nnx.state(bridges.load_model(self._folder)), 0)
                self._stale = False
            [drawn] = self._engine.generate([Request(np.array(prompt, np.int32), params, seed)])
            self.given.append((seed, tuple(prompt)))
        return drawn
