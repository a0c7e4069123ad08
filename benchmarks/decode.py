"""Rollouts against transformers: greedy decoding of one batch, and continuous batching of prompts of mixed
length.

Both sides return the token ids.
"""
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import Case
from benchmarks.models import hf_model, our_model

# of the shortest request in continuous batching, in tokens
PROMPT_AT_LEAST = 8
NEW_AT_LEAST = 16


def batch_case(batch: int = 8, prompt: int = 32, new: int = 128, experts: int = 8, active: int = 2) -> Case:
    """Greedy, every completion exactly `new` tokens."""
    return Case(f"Greedy decode, E={experts} top-{active}, {batch} x ({prompt} + {new})",
                "transformers generate", __name__,
                dict(kind="batch", batch=batch, prompt=prompt, new=new, experts=experts, active=active))


def continuous_case(requests: int = 64, slots: int = 16, longest_prompt: int = 64,
                    longest: int = 128) -> Case:
    """Prompts and completions of mixed length through continuous batching on both sides."""
    return Case(f"Continuous batching, {requests} requests of mixed length, {slots} slots",
                "transformers continuous batching", __name__,
                dict(kind="continuous", requests=requests, slots=slots, longest_prompt=longest_prompt,
                     longest=longest))


def ours(kind: str, **settings: int) -> Callable[[], Any]:
    return {"batch": _our_batch, "continuous": _our_continuous}[kind](**settings)


def theirs(kind: str, **settings: int) -> Callable[[], Any]:
    return {"batch": _their_batch, "continuous": _their_continuous}[kind](**settings)


def _prompts(vocab: int, batch: int, prompt: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, vocab, (batch, prompt)).astype(np.int32)


def mixed(vocab: int, requests: int, longest_prompt: int, longest: int):
    """(prompts, numbers of new tokens)."""
    rng = np.random.default_rng(0)
    prompts = [
        rng.integers(0, vocab, n).astype(np.int32)
        for n in rng.integers(PROMPT_AT_LEAST, longest_prompt + 1, requests)
    ]
    return prompts, rng.integers(NEW_AT_LEAST, longest + 1, requests).tolist()


def greedy(model: Any, prompts: Sequence[np.ndarray], news: Sequence[int], longest_prompt: int,
           **section: Any) -> Callable[[], Any]:
    from jaxrl_moe.config import RolloutSection
    from jaxrl_moe.engine.engine import JaxEngine
    from jaxrl_moe.types import Request, SamplingParams
    engine = JaxEngine(model, RolloutSection(**section), max_prompt_tokens=longest_prompt)

    def generate():
        drawn = engine.generate([Request(row, SamplingParams(max_tokens=new, temperature=0.0), i)
                                 for i, (row, new) in enumerate(zip(prompts, news))])
        return [completions[0].ids.tolist() for completions in drawn]

    return generate


def _our_batch(batch: int, prompt: int, new: int, **shape: int):
    model = our_model(None, **shape)
    return greedy(model, _prompts(model.config.vocab_size, batch, prompt), [new] * batch, prompt,
                   slots=batch, max_tokens=new, decode_steps=new)


def _our_continuous(requests: int, slots: int, longest_prompt: int, longest: int):
    model = our_model(None)
    return greedy(model, *mixed(model.config.vocab_size, requests, longest_prompt, longest), longest_prompt,
                   slots=slots, max_tokens=longest)


def _their_batch(batch: int, prompt: int, new: int, **shape: int):
    import torch
    hf = hf_model(**shape).eval()
    prompts = torch.tensor(_prompts(hf.config.vocab_size, batch, prompt), dtype=torch.long)

    def generate():
        with torch.no_grad():
            out = hf.generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=new,
                              min_new_tokens=new, do_sample=False, pad_token_id=0)
        return out[:, prompt:].tolist()

    return generate


def _their_continuous(requests: int, slots: int, longest_prompt: int, longest: int):
    from transformers import ContinuousBatchingConfig, GenerationConfig
    hf = hf_model().eval()
    prompts, news = mixed(hf.config.vocab_size, requests, longest_prompt, longest)

    def generate():
        generation = GenerationConfig(max_new_tokens=longest, do_sample=False, eos_token_id=-1,
                                      pad_token_id=0)
        manager = hf.init_continuous_batching(
            generation_config=generation,
            continuous_batching_config=ContinuousBatchingConfig(max_batch_tokens=512, use_cuda_graph=False))
        manager.start()
        for i, (row, new) in enumerate(zip(prompts, news)):
            manager.add_request(row.tolist(), request_id=str(i), max_new_tokens=new)
        drawn = {}
        try:
            while len(drawn) < requests:
                result = manager.get_result(timeout=1)
                if result is not None and result.is_finished():
                    drawn[int(result.request_id)] = list(result.generated_tokens)
        finally:
            manager.stop(block=True)
        return [drawn[i] for i in range(requests)]

    return generate
