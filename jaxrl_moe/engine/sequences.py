"""What the engine keeps of a request in flight, and of each of its samples."""
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxrl_moe.types import Completion, Request


class Chunk(NamedTuple):
    """Tokens that one step drew for one sample; finish_reason is "" while the sample goes on."""
    sample: int
    ids: np.ndarray
    logprobs: np.ndarray
    policy_version: np.ndarray
    finish_reason: str


@dataclasses.dataclass(eq=False)
class RequestGroup:
    """One request, or those of its samples that one scheduler draws: then they share `completions` with the
    others.

    `held` are the pages of prompt[:-1], kept while samples still wait for a place.

    `listen`, if set, is handed the chunks of its samples as they are drawn. `prompt_routes` are the expert
    ids [prompt - 1, L, A] of the prefix, once known, if the request wants them; a sample keeps those that its
    own first tokens were drawn after, whatever weights come later.
    """
    handle: int
    request: Request
    stop_ids: tuple[int, ...]
    listen: Callable[[Chunk], None] | None = None
    waiting: int = 0
    held: list[int] | None = None
    prompt_routes: np.ndarray | None = None
    completions: dict[int, Completion] = dataclasses.field(default_factory=dict)

    @property
    def prefix_length(self) -> int:
        return len(self.request.ids) - 1

    def elsewhere(self) -> "RequestGroup":
        """The same request for samples that another scheduler draws."""
        return dataclasses.replace(self, waiting=0, held=None, prompt_routes=None)


class Sequence:
    """One sample being drawn: `ids` holds the prompt and what was drawn so far, `length` tokens in all."""

    def __init__(self, group: RequestGroup, sample: int):
        prompt = group.request.ids
        params = group.request.params
        self.group = group
        self.sample = sample
        self.length = len(prompt)
        self.limit = len(prompt) + params.max_tokens
        self.ids = np.concatenate([prompt, np.zeros(params.max_tokens)]).astype(np.int32)
        self.logprobs = np.zeros(params.max_tokens, np.float32)
        self.versions = np.zeros(params.max_tokens, np.int32)
        self.prompt_routes: np.ndarray | None = None
        self.routes: list[np.ndarray] = []
        self.pages: list[int] = []

    @property
    def drawn(self) -> int:
        return self.length - len(self.group.request.ids)

    def cached_after(self, steps: int) -> int:
        """Tokens in the cache after `steps` more were drawn; the newest token is never in it."""
        return min(self.length - 1 + steps, self.limit - 1)

    def append(self, ids: np.ndarray, logprobs: np.ndarray, version: int, routes: np.ndarray | None) -> None:
        start = self.drawn
        end = self.drawn + len(ids)
        self.ids[self.length:self.length + len(ids)] = ids
        self.logprobs[start:end] = logprobs
        self.versions[start:end] = version
        if routes is not None:
            if start == 0:
                self.prompt_routes = self.group.prompt_routes
            self.routes.append(routes)
        self.length += len(ids)

    def chunk(self, start: int, completion: Completion | None) -> Chunk:
        """What was drawn from token `start` on; `completion` is the sample's, if it has ended."""
        end = self.drawn if completion is None else len(completion.ids)
        prompt = len(self.group.request.ids)
        return Chunk(self.sample, self.ids[prompt + start:prompt + end].copy(),
                     self.logprobs[start:end].copy(), self.versions[start:end].copy(),
                     "" if completion is None else completion.finish_reason)

    def completion(self, keep: int, reason: str) -> Completion:
        """The first `keep` drawn tokens as a Completion."""
        prompt = len(self.group.request.ids)
        expert_ids = None
        if self.group.request.params.return_routed_experts:
            drawn = np.concatenate(self.routes)[:keep]
            expert_ids = drawn if self.prompt_routes is None else np.concatenate([self.prompt_routes, drawn])
        return Completion(self.ids[prompt:prompt + keep].copy(), self.logprobs[:keep].copy(), reason,
                          self.versions[:keep].copy(), expert_ids)
