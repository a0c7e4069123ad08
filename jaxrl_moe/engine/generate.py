"""Texts in, texts out: for people, not for training."""
from collections.abc import Sequence

import numpy as np

from jaxrl_moe.config import RolloutSection
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.types import Request, SamplingParams


def generate_texts(model: Transformer, tokenizer: Tokenizer, prompts: Sequence[str],
                   params: SamplingParams, *, system: str = "", raw: bool = False, seed: int = 0
                   ) -> list[list[str]]:
    """Completes prompts.

    Args:
      model: the policy.
      tokenizer: its own.
      prompts: texts; each becomes a user message under the chat template, unless raw.
      params: how to draw; params.n texts come back for each prompt.
    """
    ids = [_ids(tokenizer, prompt, system, raw) for prompt in prompts]
    slots = min(64, len(prompts) * params.n)
    settings = RolloutSection(max_tokens=params.max_tokens, slots=slots)
    engine = JaxEngine(model, settings, max_prompt_tokens=max(map(len, ids)), seed=seed,
                       eos_ids=tokenizer.eos_ids, detokenise=tokenizer.decode)
    drawn = engine.generate([Request(ids_T, params, number) for number, ids_T in enumerate(ids)])
    return [[tokenizer.decode(completion.ids) for completion in completions] for completions in drawn]


def _ids(tokenizer: Tokenizer, prompt: str, system: str, raw: bool) -> np.ndarray:
    if raw:
        return tokenizer.encode(prompt)
    messages = [{"role": "system", "content": system}] if system else []
    return tokenizer.render([*messages, {"role": "user", "content": prompt}])
