"""What the engine keeps of a request in flight, and of each of its samples."""
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxrl_moe.engine.prefixes import KnownPage, KnownPrefix
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
    """One request and what is done of it.

    `listen`, if set, is handed the chunks of its samples as they are drawn.
    """
    handle: int
    request: Request
    stop_ids: tuple[int, ...]
    listen: Callable[[Chunk], None] | None = None
    completions: dict[int, Completion] = dataclasses.field(default_factory=dict)


class Sequence:
    """One sample being drawn: `ids` holds the prompt and what was drawn so far, `length` tokens in all.

    While it runs, `pages` hold the keys and values of all tokens but the newest, `current` says whether they
    are all of the weights that are drawn from now, and `cached_routes` are the expert ids [..., L, A] under
    which they were computed, if the request wants them. What a completion tells are those that its tokens
    were drawn after, `prompt_routes` and `routes`, whatever weights come later.
    """

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
        self.current = False
        self.cached_routes: list[np.ndarray] = []
        self._reused = KnownPrefix()
        self._entered: list[tuple[int, KnownPage]] = []

    @property
    def routed(self) -> bool:
        """Whether the request wants the routes."""
        return self.group.request.params.return_routed_experts

    @property
    def drawn(self) -> int:
        return self.length - len(self.group.request.ids)

    def cached_after(self, steps: int) -> int:
        """Tokens in the cache after `steps` more were drawn; the newest token is never in it."""
        return min(self.length - 1 + steps, self.limit - 1)

    def begin(self, pages: list[int], reused: KnownPrefix, entered: list[tuple[int, KnownPage]]) -> None:
        """It runs on these pages from now on, of which it entered some into the cache; their keys and values
        are `reused` or about to be computed."""
        self.pages = pages
        self.current = True
        self.cached_routes = []
        self._reused = reused
        self._entered = entered

    def join_routes(self) -> None:
        """Puts the routes of what it reuses before those of what was prefilled, and tells both to the pages
        that it entered."""
        reused = [known.routes for known in self._reused.full]
        if self._reused.tail is not None:
            reused.append(self._reused.tail.routes[:self._reused.more])
        self.cached_routes = reused + self.cached_routes
        self.tell_routes(self._entered)

    def tell_routes(self, entered: list[tuple[int, KnownPage]]) -> None:
        """Gives pages with tokens of this sequence, by the position of their first, the routes of these."""
        if not (self.routed and entered):
            return
        routes = np.concatenate(self.cached_routes)
        for start, known in entered:
            known.routes = routes[start:start + len(known.ids)].copy()

    def append(self, ids: np.ndarray, logprobs: np.ndarray, version: int, routes: np.ndarray | None) -> None:
        start = self.drawn
        end = self.drawn + len(ids)
        self.ids[self.length:self.length + len(ids)] = ids
        self.logprobs[start:end] = logprobs
        self.versions[start:end] = version
        if routes is not None:
            if start == 0 and self.cached_routes:
                self.prompt_routes = np.concatenate(self.cached_routes)
            self.routes.append(routes)
            self.cached_routes.append(routes)
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
