"""Made-up rollout groups."""
import numpy as np

from jaxrl_moe.types import Prompt, Rollout, RolloutGroup


def rollout(rng, prompt=3, completion=5, reward=0.0, truncated=False, holes=False, experts=0):
    """Random ids below 90; with holes, the middle completion token is an observation."""
    mask = np.ones(completion, np.int32)
    if holes and completion > 2:
        mask[completion // 2] = 0
    routes = rng.integers(0, experts, (prompt + completion - 1, 2, 3)).astype(np.int8) if experts else None
    return Rollout(
        prompt_ids=rng.integers(0, 90, prompt).astype(np.int32), completion_ids=rng.integers(0, 90, completion).astype(np.int32),
        loss_mask=mask, sampler_logprobs=(-rng.random(completion) * mask).astype(np.float32),
        policy_version=np.zeros(completion, np.int32), reward=reward, text="", truncated=truncated, info={},
        expert_ids=routes)


def group(rollouts, sequence=0):
    return RolloutGroup(Prompt(rollouts[0].prompt_ids, {}, 0), rollouts, sequence)


def groups(seed=0, count=3, size=4, **kwargs):
    """Groups of random lengths and rewards."""
    rng = np.random.default_rng(seed)
    return [group([rollout(rng, int(rng.integers(1, 6)), int(rng.integers(1, 12)), float(rng.integers(0, 2)), **kwargs)
                   for _ in range(size)], i) for i in range(count)]
