"""What a request must satisfy, said in one paragraph where it does not."""
import dataclasses

import numpy as np

from jaxrl_moe.engine.pages import pages_for
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.types import Request, SamplingParams, UserError


@dataclasses.dataclass(frozen=True)
class Limits:
    """What this engine can serve: sequences of the model's context (or of `context` tokens, where a server
    takes fewer), a pool of `pages` pages, stop strings or not."""
    config: ModelConfig
    page_size: int
    pages: int
    has_text: bool
    context: int = 0

    @property
    def longest(self) -> int:
        """Most tokens of any sequence: the newest token is not cached, and a page may be needed for a
        prompt's copy."""
        return min(self._context, max(self.pages - 1, 1) * self.page_size + 1)

    @property
    def _context(self) -> int:
        model = self.config.drawn_context
        return min(model, self.context or model)

    def check(self, request: Request, name: str = "") -> None:
        """Raises UserError for a request that could never be met; by default it is named by its place in the
        draws."""
        name = name or f"Request {request.sequence} (turn {request.turn})"
        _check_params(name, request.params)
        self._check_ids(name, request.ids)
        if request.params.stop_strings and not self.has_text:
            raise UserError(f"{name} has stop strings, but the engine was made without a detokeniser. Pass "
                            "`detokenise`, or use stop ids.")
        if request.params.return_routed_experts and not self.config.num_sparse_layers:
            raise UserError(f"{name} asks for routed experts, but the model is dense. Turn "
                            "return_routed_experts off.")
        self._check_length(name, request)

    def _check_ids(self, name: str, ids: np.ndarray):
        if ids.ndim != 1 or len(ids) == 0 or not np.issubdtype(ids.dtype, np.integer):
            raise UserError(f"{name} needs a prompt of one or more integer token ids; it has shape "
                            f"{ids.shape} and dtype {ids.dtype}.")
        if ids.min() < 0 or ids.max() >= self.config.vocab_size:
            raise UserError(f"{name} has token ids from {ids.min()} to {ids.max()}, but the model's "
                            f"vocabulary holds 0 to {self.config.vocab_size - 1}. Use the tokenizer that "
                            "belongs to the checkpoint.")

    def _check_length(self, name: str, request: Request):
        prompt = len(request.ids)
        new = request.params.max_tokens
        context = self._context
        if prompt + new > context:
            raise UserError(f"{name} has {prompt} prompt tokens and max_tokens {new}, {prompt + new} in all; "
                            f"the model's context is {context}. Shorten the prompt or lower max_tokens.")
        copies = 1 if request.params.n > 1 and (prompt - 1) % self.page_size else 0
        need = pages_for(prompt + new - 1, self.page_size) + copies
        if need > self.pages:
            raise UserError(f"{name} may grow to {prompt + new} tokens, which takes {need} pages of "
                            f"{self.page_size} tokens, but the KV pool has {self.pages}. Raise "
                            f"rollout.kv_tokens to {need * self.page_size} or lower max_tokens.")


def _check_params(name: str, params: SamplingParams):
    rules = (("max_tokens", params.max_tokens >= 1, "at least 1"),
             ("n", params.n >= 1, "at least 1"),
             ("temperature", params.temperature >= 0, "0 (greedy) or more"),
             ("top_p", 0 < params.top_p <= 1, "above 0 and at most 1"),
             ("top_k", params.top_k >= 0, "0 (off) or more"),
             ("min_p", 0 <= params.min_p < 1, "at least 0 and below 1"),
             ("stop_strings", all(params.stop_strings), "without empty strings"))
    for field, holds, must in rules:
        if not holds:
            raise UserError(f"{name} has {field} = {getattr(params, field)!r}; it must be {must}.")
