"""Prompts x environment x engine -> groups of graded completions."""
from collections.abc import Callable, Sequence

import numpy as np

from jaxrl_moe.types import Completion, Engine, Env, Prompt, Request, Rollout, RolloutGroup, SamplingParams, Turn

TRAIN_STREAM, EVAL_STREAM, GREEDY_STREAM, SERVED_STREAM = range(4)  # streams of noise that never meet

Decode = Callable[[Sequence[int]], str]


def collect(prompts: Sequence[Prompt], env: Env, engine: Engine, params: SamplingParams, decode: Decode,
            first_sequence: int, stream: int = TRAIN_STREAM) -> list[RolloutGroup]:
    """Draws params.n completions of each prompt and grades them.

    Args:
      prompts: P prompts.
      env: grades the completions' texts.
      engine: draws them.
      params: how they are drawn; n is the group size.
      decode: token ids to text.
      first_sequence: draw number of the first prompt; the others follow. With the seed it decides the noise.
      stream: which stream of noise, so that evaluation and training share none.

    Returns:
      P groups of n rollouts, in the order of the prompts.
    """
    return grade(draw(prompts, engine, params, first_sequence, stream), env, decode)


Draw = tuple[Prompt, int, list[Completion]]


def draw(prompts: Sequence[Prompt], engine: Engine, params: SamplingParams, first_sequence: int,
         stream: int = TRAIN_STREAM) -> list[Draw]:
    """The ungraded half of `collect`: (prompt, draw number, its completions)."""
    requests = [Request(prompt.ids, params, first_sequence + number, stream=stream)
                for number, prompt in enumerate(prompts)]
    completions = engine.generate(requests)
    return [(prompt, request.sequence, drawn) for prompt, request, drawn in zip(prompts, requests, completions, strict=True)]


def grade(draws: Sequence[Draw], env: Env, decode: Decode) -> list[RolloutGroup]:
    """The other half: every completion becomes a graded rollout."""
    return [RolloutGroup(prompt, [_rollout(prompt, completion, env, decode) for completion in completions], sequence)
            for prompt, sequence, completions in draws]


def _rollout(prompt: Prompt, completion: Completion, env: Env, decode: Decode) -> Rollout:
    """Grades one completion; the text has no special tokens, so a stop token is not part of it."""
    text = decode(completion.ids.tolist())
    truncated = completion.finish_reason == "length"
    verdict = env.grade(prompt.row, text, len(completion.ids), truncated)
    return Rollout(
        prompt_ids=prompt.ids, completion_ids=completion.ids, loss_mask=np.ones(len(completion.ids), np.int32),
        sampler_logprobs=completion.logprobs, policy_version=completion.policy_version, reward=verdict.reward, text=text,
        truncated=truncated, info=verdict.info, expert_ids=completion.expert_ids,
        turns=(Turn(0, len(completion.ids), verdict.reward, verdict.achieved),))
