"""Prompts x environment x engine -> groups of graded completions."""
from collections.abc import Callable, Sequence

import numpy as np

from jaxrl_moe.distributed import hosts
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
    """The other half: every completion becomes a graded rollout. Process 0 asks the environment, for all processes."""
    texts = [[decode(completion.ids.tolist()) for completion in completions] for _, _, completions in draws]
    verdicts = hosts.from_leader(lambda: _verdicts(draws, texts, env))
    return [RolloutGroup(prompt, [_rollout(prompt, *one) for one in zip(completions, own, graded, strict=True)], sequence)
            for (prompt, sequence, completions), own, graded in zip(draws, texts, verdicts, strict=True)]


def _verdicts(draws: Sequence[Draw], texts: Sequence[Sequence[str]], env: Env) -> list[list[tuple]]:
    """[group][completion] (reward, info, achieved) of the environment's verdicts, as plain values that other processes can read."""
    graded = [[env.grade(prompt.row, text, len(completion.ids), _truncated(completion))
               for completion, text in zip(completions, own, strict=True)]
              for (prompt, _, completions), own in zip(draws, texts, strict=True)]
    return [[(float(one.reward), {name: float(value) for name, value in one.info.items()}, one.achieved) for one in group]
            for group in graded]


def _truncated(completion: Completion) -> bool:
    return completion.finish_reason == "length"


def _rollout(prompt: Prompt, completion: Completion, text: str, verdict: tuple) -> Rollout:
    """A graded completion; the text has no special tokens, so a stop token is not part of it."""
    reward, info, achieved = verdict
    return Rollout(
        prompt_ids=prompt.ids, completion_ids=completion.ids, loss_mask=np.ones(len(completion.ids), np.int32),
        sampler_logprobs=completion.logprobs, policy_version=completion.policy_version, reward=reward, text=text,
        truncated=_truncated(completion), info=info, expert_ids=completion.expert_ids,
        turns=(Turn(0, len(completion.ids), reward, None if achieved is None else tuple(achieved)),))
