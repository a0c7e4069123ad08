"""An engine without a model: it writes given texts, so that a test can say what the model says."""
import itertools

import numpy as np

from jaxrl_moe.engine.sequences import Chunk
from jaxrl_moe.types import Completion


class Scripted:
    """Draws `text`, three tokens a step, with log-prob -k for the k-th; `failing` is raised at the second
    step."""
    slots = 4
    reason = "stop"  # that a completion ends for
    context = 4096

    def __init__(self, tokenizer, text, failing=None):
        self.ids = np.append(tokenizer.encode(text), tokenizer.eos_ids[0]).astype(np.int32)
        self.handles = itertools.count()
        self.work = {}
        self.failing = failing
        self.steps = 0

    def check(self, request, name=""):
        pass

    def submit(self, request, listen=None):
        handle = next(self.handles)
        self.work[handle] = [request, listen, 0]
        return handle

    def cancel(self, handle):
        self.work.pop(handle, None)

    def step(self):
        self.steps += 1
        if self.failing and self.steps > 1:
            self.work.clear()
            raise self.failing
        done = {}
        for handle, job in list(self.work.items()):
            request, listen, start = job
            job[2] = end = min(start + 3, len(self.ids))
            reason = self.reason if end == len(self.ids) else ""
            logprobs = -np.arange(len(self.ids), dtype=np.float32)
            versions = np.zeros(len(self.ids), np.int32)
            for sample in range(request.params.n):
                listen(Chunk(sample, self.ids[start:end], logprobs[start:end], versions[start:end], reason))
            if reason:
                done[handle] = [Completion(self.ids, logprobs, reason, versions)] * request.params.n
                del self.work[handle]
        return done
