"""Made-up rollout groups, and requests of prompts."""
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxrl_moe.types import Prompt, Request, Rollout, RolloutGroup, SamplingParams


def requests(prompts: Iterable[np.ndarray], **params: Any) -> list[Request]:
    """One of each prompt's ids, numbered; of 12 tokens at most unless `params`, as of SamplingParams, say
    otherwise."""
    params = {"max_tokens": 12} | params
    return [Request(ids, SamplingParams(**params), number) for number, ids in enumerate(prompts)]


def rollout(rng: np.random.Generator, prompt: int = 3, completion: int = 5, reward: float = 0.0,
            truncated: bool = False, holes: bool = False, experts: int = 0) -> Rollout:
    """Random ids below 90; with holes, the middle completion token is an observation."""
    mask = np.ones(completion, np.int32)
    if holes and completion > 2:
        mask[completion // 2] = 0
    routes = rng.integers(0, experts, (prompt + completion - 1, 2, 3)).astype(np.int8) if experts else None
    return Rollout(prompt_ids=rng.integers(0, 90, prompt).astype(np.int32),
                   completion_ids=rng.integers(0, 90, completion).astype(np.int32), loss_mask=mask,
                   sampler_logprobs=(-rng.random(completion) * mask).astype(np.float32),
                   policy_version=np.zeros(completion, np.int32), reward=reward, text="", truncated=truncated,
                   info={}, expert_ids=routes)


def group(rollouts: list[Rollout], sequence: int = 0) -> RolloutGroup:
    return RolloutGroup(Prompt(rollouts[0].prompt_ids, {}, 0), rollouts, sequence)


def groups(seed: int = 0, count: int = 3, size: int = 4, **kwargs: Any) -> list[RolloutGroup]:
    """Groups of random lengths and rewards."""
    rng = np.random.default_rng(seed)
    return [
        group([
            rollout(rng, int(rng.integers(1, 6)), int(rng.integers(1, 12)), float(rng.integers(0, 2)), **
                    kwargs) for _ in range(size)
        ], i) for i in range(count)
    ]
