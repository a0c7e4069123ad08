"""From what a client sent to requests of the engine, under admission control."""
import contextlib
import dataclasses
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.rollout.collect import SERVED_STREAM
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.serving.http.errors import Refusal
from jaxrl_moe.serving.http.metrics import Counters
from jaxrl_moe.serving.openai.generation import Drawn, Generation
from jaxrl_moe.serving.openai.messages import template_messages
from jaxrl_moe.serving.openai.models import Models
from jaxrl_moe.serving.openai.prompts import Prompts
from jaxrl_moe.serving.openai.protocol import ChatRequest, CompletionRequest, Message, Sampling
from jaxrl_moe.serving.openai.reading import Readers
from jaxrl_moe.serving.openai.recorder import Recorder
from jaxrl_moe.types import Request, SamplingParams

FRAME = 100  # characters that take as long to encode as a message, or a tool, to render
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

    def __init__(self, front: EngineFront, tokenizer: Tokenizer, models: Models, *, queue: int = 256,
                 chat_tokens: int = 1024, recorder: Recorder | None = None):
        self.front = front
        self.tokenizer = tokenizer
        self.readers = Readers(tokenizer)
        self.models = models
        self.recorder = recorder
        self.counters = Counters()
        self._room = front.slots + queue
        self._chat_tokens = chat_tokens
        self._in_flight = 0
        self._seconds = 1.0  # that calls take, lately
        self.prompts = Prompts(tokenizer, front.context)
        self._special = {str(token): number for number, token in tokenizer.hf.added_tokens_decoder.items()
                         if token.special}

    @property
    def in_flight(self) -> int:
        """Samples that were admitted and are not done."""
        return self._in_flight

    async def completions(self, body: CompletionRequest) -> Generation:
        """Admits a call of /v1/completions; raises Refusal or UserError."""
        params = self._params(body, body.max_tokens or COMPLETION_TOKENS)
        with self.room_for(len(body.prompts) * params.n) as stays:
            prompts = [await self.prompts.encode(prompt) if isinstance(prompt, str)
                       else np.array(prompt, np.int32) for prompt in body.prompts]
            return self._seeded("/v1/completions", body, prompts, params, stays)

    async def chat(self, body: ChatRequest) -> Generation:
        """Admits a call of /v1/chat/completions; raises Refusal or UserError."""
        given = body.max_tokens or body.max_completion_tokens
        params = self._params(body, given or 1)
        with self.room_for(params.n) as stays:
            prompt = await self.rendered(body)
            left = max(1, min(self._chat_tokens, self.front.context - len(prompt)))
            params = dataclasses.replace(params, max_tokens=given or left)
            return self._seeded("/v1/chat/completions", body, [prompt], params, stays)

    async def rendered(self, body: ChatRequest) -> np.ndarray:
        """The [T] ids of a chat's prompt, as the template writes it; raises Refusal or UserError."""
        tools = offered_tools(body)
        text = await self.prompts.run(lambda: self.tokenizer.render_hidden(
            template_messages(body.messages), tools=tools, variables=body.chat_template_kwargs,
            generation_prompt=body.add_generation_prompt is not False,
            continue_final=bool(body.continue_final_message)), size=size_of(body))
        return await self.prompts.encode(text, self.tokenizer.encode_hidden)

    def _params(self, body: Sampling, max_tokens: int) -> SamplingParams:
        """The engine's parameters."""
        self.models.check(body.model)
        ids, strings = self.stops(body)
        return dataclasses.replace(sampling(body, max_tokens), stop_ids=ids, stop_strings=strings)

    def stops(self, body: Sampling) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """(ids, strings) that end a completion. A special token among the stop strings, which no text holds,
        becomes an id; raises UserError for a string that no text holds either."""
        ids = [self._special[stop] for stop in body.stops if stop in self._special]
        strings = tuple(stop for stop in body.stops if stop not in self._special)
        self.tokenizer.check_stop_strings(strings, "stop")
        return (*(body.stop_token_ids or ()), *ids), strings

    @contextlib.contextmanager
    def room_for(self, samples: int) -> Iterator[contextlib.ExitStack]:
        """Holds room for samples; the stack that it gives keeps it when its callbacks are taken over.

        Raises:
          Refusal: there is none, now (429) or ever.
        """
        if samples > self._room:
            raise Refusal(400, f"The request asks for {samples} samples; this server takes at most "
                               f"{self._room} at once.", param="n")
        if self._in_flight + samples > self._room:
            self.counters.refused += 1
            raise Refusal(429, f"{self._in_flight} samples are being drawn or wait; there is no room for "
                               f"{samples} more. Try again later.",
                          headers={"Retry-After": str(min(60, max(1, math.ceil(self._seconds))))})
        with contextlib.ExitStack() as stack:
            self._in_flight += samples
            stack.callback(self._free, samples)
            yield stack

    def _free(self, samples: int) -> None:
        self._in_flight -= samples

    def _seeded(self, path: str, body: Sampling, prompts: Sequence[np.ndarray], params: SamplingParams,
                room: contextlib.ExitStack) -> Generation:
        seeds = [body.seed if body.seed is not None else secrets.randbits(63) for _ in prompts]
        requests = [seeded(ids, params, seed) for ids, seed in zip(prompts, seeds)]
        return self.admit(path, body, requests, room, [{"seed": seed} for seed in seeds])

    def admit(self, path: str, body: Sampling, requests: Sequence[Request], room: contextlib.ExitStack,
              origins: Sequence[Mapping[str, Any]], drawn: Drawn | None = None) -> Generation:
        """Hands a call's requests to the engine; raises UserError for one that it cannot meet.

        Args:
          path, body: of the call.
          requests: one for each prompt.
          room: what is held for it, until the generation ends.
          origins: of the noise of each request, for the record.
          drawn: see Generation.
        """
        for number, request in enumerate(requests):
            self.front.check(request,
                             "The request" if len(requests) == 1 else f"Prompt {number} of the request")
        prefix = "chatcmpl" if isinstance(body, ChatRequest) else "cmpl"
        generation = Generation(self.front, prefix, requests,
                                lambda generation: self._ended(path, body, origins, held, generation), drawn)
        held = room.pop_all()  # until the generation ends
        return generation

    def _ended(self, path: str, body: Sampling, origins: Sequence[Mapping[str, Any]],
               held: contextlib.ExitStack, generation: Generation):
        """Makes room for others, counts the call and records it."""
        seconds = generation.seconds
        held.close()
        self._seconds += 0.1 * (seconds - self._seconds)
        self.counters.call(path, "done" if generation.complete else "cancelled", seconds,
                           generation.prompt_tokens, generation.drawn_tokens)
        if self.recorder is not None:
            call = {
                "step": self.front.version,
                "id": generation.id,
                "path": path,
                "model": body.model,
                "user": body.user
            }
            for origin, request, completions in zip(origins, generation.requests, generation.records()):
                self.recorder.write(call, origin, request, completions)

    def close(self) -> None:
        self.prompts.close()


def offered_tools(body: ChatRequest) -> list[dict[str, Any]]:
    """The functions that a chat may call."""
    return [tool.model_dump(exclude_unset=True) for tool in body.tools or ()] if body.offers_tools else []


def size_of(body: ChatRequest) -> int:
    """Characters that take as long to encode as a chat does to render."""
    frames = len(body.messages) + len(offered_tools(body))
    return sum(map(_length, body.messages)) + FRAME * frames


def _length(message: Message) -> int:
    """Characters of a message's content."""
    content = message.content or ""
    return len(content) if isinstance(content, str) else sum(len(part.text) for part in content)


def sampling(body: Sampling, max_tokens: int) -> SamplingParams:
    """The engine's parameters; what the client left out or sent as null has OpenAI's default."""
    def given(value: Any, default: Any):
        return default if value is None else value

    return SamplingParams(max_tokens=max_tokens, temperature=given(body.temperature, 1.0),
                          top_p=given(body.top_p, 1.0), top_k=max(given(body.top_k, 0), 0),
                          min_p=given(body.min_p, 0.0), stop_ids=tuple(body.stop_token_ids or ()),
                          stop_strings=body.stops, n=given(body.n, 1))


def seeded(ids: np.ndarray, params: SamplingParams, seed: int) -> Request:
    """A request whose noise is the seed's alone: equal requests with equal seeds draw equal tokens, whoever
    else is served."""
    return Request(ids, params, sequence=seed & WORD, turn=(seed >> 32) & WORD, stream=SERVED_STREAM)
