"""Tokens a second of the engine at a given number of sequences, prefill and compilation apart."""
import dataclasses
import time
from typing import NamedTuple

import numpy as np

from jaxrl_moe.config import Config
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.types import Request, SamplingParams

# by whether it is a rehearsal
LENGTH = {False: 1024, True: 64}  # tokens at the end
NEW = {False: 192, True: 32}  # tokens drawn of them


class Rate(NamedTuple):
    """tokens_per_s: the median over chunks of tokens that nothing but decoding took; first_s: of the first,
    with prefill."""
    tokens_per_s: float
    chunks: int
    first_s: float


def rate(learner: Learner, config: Config, slots: int, rehearse: bool) -> Rate:
    """Draws in all slots at once from the learner's present weights; the KV pool is given back."""
    prompt = LENGTH[rehearse] - NEW[rehearse]
    steps = min(config.rollout.decode_steps, NEW[rehearse] // 4)
    section = dataclasses.replace(config.rollout, slots=slots, kv_tokens=(slots + 1) * LENGTH[rehearse],
                                  decode_steps=steps)
    engine = JaxEngine(learner.model(), section, max_prompt_tokens=prompt)
    rows = np.random.default_rng(slots).integers(0, learner.config.vocab_size,
                                                 (slots, prompt)).astype(np.int32)
    for number, row in enumerate(rows):
        engine.submit(Request(row, SamplingParams(max_tokens=NEW[rehearse]), number))
    try:
        return summary(drawn(engine, slots))
    finally:
        engine.release()


def drawn(engine: JaxEngine, requests: int) -> list[tuple[float, int, bool]]:
    """(seconds, tokens, whether it did nothing but decode) of each chunk until all requests are done."""
    chunks = []
    done = 0
    before = engine.stats()
    while done < requests:
        start = time.perf_counter()
        done += len(engine.step())
        seconds = time.perf_counter() - start
        after = engine.stats()
        pure = all(after[name] == before[name] for name in ("prefill_tokens", "compiles"))
        chunks.append((seconds, int(after["tokens"] - before["tokens"]), pure))
        before = after
    return chunks


def summary(chunks: list[tuple[float, int, bool]]) -> Rate:
    """Raises RuntimeError where no chunk was decoding alone."""
    full = max(tokens for _, tokens, _ in chunks)
    rates = [tokens / seconds for seconds, tokens, pure in chunks if pure and tokens == full]
    if not rates:
        raise RuntimeError("every chunk of tokens had a prefill or a compilation in it")
    return Rate(float(np.median(rates)), len(rates), chunks[0][0])
