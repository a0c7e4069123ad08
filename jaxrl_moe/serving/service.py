"""From what a client sent to requests of the engine, under admission control; and what has become of them."""
import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.rollout.collect import SERVED_STREAM
from jaxrl_moe.rollout.sequences import Chunk
from jaxrl_moe.serving.errors import Refusal
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.serving.messages import template_messages
from jaxrl_moe.serving.metrics import Counters
from jaxrl_moe.serving.models import Models
from jaxrl_moe.serving.protocol import ChatRequest, CompletionRequest, Sampling
from jaxrl_moe.serving.recorder import Recorder
from jaxrl_moe.types import Request, SamplingParams, UserError

WORD = 2**32 - 1
COMPLETION_TOKENS = 16  # of /v1/completions without max_tokens, as OpenAI has it


class Service:
    """What all requests share. But for the tokenising, everything happens on the event loop's thread.

    Args:
      front: the engine's.
      tokenizer: the model's.
      models: the names that are served.
      queue: samples that may wait beyond those that the engine draws at once; more are refused with 429.
      chat_tokens: limit of a chat completion that names none; less where the context ends before.
      recorder: gets every call.
    """

    def __init__(self, front: EngineFront, tokenizer: Tokenizer, models: Models, *, queue: int = 256, chat_tokens: int = 1024,
                 recorder: Recorder | None = None):
        self.front, self.tokenizer, self.models, self.recorder = front, tokenizer, models, recorder
        self.counters = Counters()
        self._room, self._chat_tokens, self._in_flight = front.slots + queue, chat_tokens, 0
        self._seconds = 1.0  # that calls take, lately
        self._tokenising = ThreadPoolExecutor(1, "tokeniser")  # so that a long prompt keeps nobody waiting

    @property
    def in_flight(self) -> int:
        """Samples that were admitted and are not done."""
        return self._in_flight

    async def completions(self, body: CompletionRequest) -> "Generation":
        """Admits a call of /v1/completions; raises Refusal or UserError."""
        self.models.check(body.model)
        prompts = [await self._tokenise(self.tokenizer.encode, prompt) if isinstance(prompt, str) else np.array(prompt, np.int32)
                   for prompt in body.prompts]
        return self._admit("/v1/completions", body, prompts, body.max_tokens or COMPLETION_TOKENS)

    async def chat(self, body: ChatRequest) -> "Generation":
        """Admits a call of /v1/chat/completions; raises Refusal or UserError."""
        self.models.check(body.model)
        tools = [tool.model_dump(exclude_unset=True) for tool in body.tools or ()] if body.offers_tools else []
        prompt = await self._tokenise(lambda: self.tokenizer.render(
            template_messages(body.messages), tools=tools, variables=body.chat_template_kwargs))
        limit = body.max_tokens or body.max_completion_tokens or max(1, min(self._chat_tokens, self.front.context - len(prompt)))
        return self._admit("/v1/chat/completions", body, [prompt], limit)

    async def _tokenise(self, work, *args):
        return await asyncio.get_running_loop().run_in_executor(self._tokenising, work, *args)

    def _admit(self, path: str, body: Sampling, prompts: Sequence[np.ndarray], max_tokens: int) -> "Generation":
        self.tokenizer.check_stop_strings(body.stops, "stop")
        params, seeds = sampling(body, max_tokens), [body.seed if body.seed is not None else secrets.randbits(63) for _ in prompts]
        requests = [seeded(ids, params, seed) for ids, seed in zip(prompts, seeds)]
        for number, request in enumerate(requests):
            self.front.check(request, "The request" if len(requests) == 1 else f"Prompt {number} of the request")
        samples = len(requests) * params.n
        if samples > self._room:
            raise Refusal(400, f"The request asks for {samples} samples; this server takes at most {self._room} at once.", param="n")
        if self._in_flight + samples > self._room:
            self.counters.refused += 1
            raise Refusal(429, f"{self._in_flight} samples are being drawn or wait; there is no room for {samples} more. Try again later.",
                          headers={"Retry-After": str(min(60, max(1, math.ceil(self._seconds))))})
        return Generation(self, path, body, requests, seeds)

    def enter(self, samples: int) -> None:
        self._in_flight += samples

    def leave(self, samples: int, seconds: float) -> None:
        self._in_flight -= samples
        self._seconds += 0.1 * (seconds - self._seconds)

    def close(self) -> None:
        self._tokenising.shutdown()
        if self.recorder is not None:
            self.recorder.close()


def sampling(body: Sampling, max_tokens: int) -> SamplingParams:
    """The engine's parameters; what the client left out or sent as null has OpenAI's default."""
    def given(value, default):
        return default if value is None else value

    return SamplingParams(
        max_tokens=max_tokens, temperature=given(body.temperature, 1.0), top_p=given(body.top_p, 1.0),
        top_k=max(given(body.top_k, 0), 0), min_p=given(body.min_p, 0.0), stop_ids=tuple(body.stop_token_ids or ()),
        stop_strings=body.stops, n=given(body.n, 1))


def seeded(ids: np.ndarray, params: SamplingParams, seed: int) -> Request:
    """A request whose noise is the seed's alone: equal requests with equal seeds draw equal tokens, whoever else is served."""
    return Request(ids, params, sequence=seed & WORD, turn=(seed >> 32) & WORD, stream=SERVED_STREAM)


class Generation:
    """The samples of one call: prompt by prompt, n of each. Close it in any case: that frees what it still holds.

    Attributes:
      samples: per sample its chunks so far.
    """

    def __init__(self, service: Service, path: str, body: Sampling, requests: Sequence[Request], seeds: Sequence[int]):
        self.requests, self.n = requests, requests[0].params.n
        self.samples: list[list[Chunk]] = [[] for _ in range(len(requests) * self.n)]
        self.id = ("chatcmpl-" if "chat" in path else "cmpl-") + secrets.token_hex(16)
        self.model, self._path, self._user, self._seeds = body.model, path, body.user, seeds
        self._service, self._start, self._left = service, time.perf_counter(), len(self.samples)
        self._news: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        service.enter(len(self.samples))
        self._tickets = [service.front.submit(request, self._listener(number)) for number, request in enumerate(requests)]
        for number, ticket in enumerate(self._tickets):
            ticket.done.add_done_callback(self._listener(number))

    async def chunks(self) -> AsyncIterator[tuple[int, Chunk]]:
        """(sample, its next tokens), until all samples are done; raises Refusal(500) if the engine failed."""
        while self._left:
            number, news = await self._news.get()
            if isinstance(news, Future):
                error = None if news.cancelled() else news.exception()
                if error is not None:
                    raise Refusal(500, str(error) if isinstance(error, UserError) else "The engine failed; the server's log has more.")
                continue
            for chunk in news:
                sample = number * self.n + chunk.sample
                self.samples[sample].append(chunk)
                self._left -= chunk.finish_reason != ""
                yield sample, chunk

    def _listener(self, number):
        def hear(news):  # on the driver's thread
            try:
                self._loop.call_soon_threadsafe(self._news.put_nowait, (number, news))
            except RuntimeError:  # the server was stopped meanwhile, and nobody listens
                pass
        return hear

    def close(self) -> None:
        """Cancels what is not done, makes room for others, records and counts the call. A second time it does nothing."""
        if self._closed:
            return
        self._closed = True
        for ticket in self._tickets:
            self._service.front.cancel(ticket)
        seconds = time.perf_counter() - self._start
        self._service.leave(len(self.samples), seconds)
        outcome = "cancelled" if self._left else "done"
        drawn = sum(len(chunk.ids) for chunks in self.samples for chunk in chunks)
        self._service.counters.call(self._path, outcome, seconds, sum(len(request.ids) for request in self.requests), drawn)
        self._record()

    def _record(self):
        if self._service.recorder is None:
            return
        call = {"step": self._service.front.version, "id": self.id, "path": self._path, "model": self.model, "user": self._user}
        for number, (request, seed) in enumerate(zip(self.requests, self._seeds)):
            mine = self.samples[number * self.n:(number + 1) * self.n]
            self._service.recorder.write(call, seed, request, [_joined(chunks) for chunks in mine])


def _joined(chunks: Sequence[Chunk]) -> dict[str, Any]:
    """A sample's chunks as one record."""
    columns = {name: [value for chunk in chunks for value in getattr(chunk, name).tolist()]
               for name in ("ids", "logprobs", "policy_version")}
    return columns | {"finish_reason": chunks[-1].finish_reason if chunks and chunks[-1].finish_reason else "cancelled"}
