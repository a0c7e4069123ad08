"""Prompts x environment x engine -> groups of graded completions."""
from collections.abc import Callable, Sequence

import numpy as np

from jaxrl_moe.hosts import hosts
from jaxrl_moe.protocols import Engine, Env
from jaxrl_moe.types import Completion, Prompt, Request, Rollout, RolloutGroup, SamplingParams, Turn

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
    numbered = [(prompt, first_sequence + number) for number, prompt in enumerate(prompts)]
    return grade(draw(numbered, engine, params, stream), env, decode)


Draw = tuple[Prompt, int, list[Completion]]


def draw(numbered: Sequence[tuple[Prompt, int]], engine: Engine, params: SamplingParams, stream: int = TRAIN_STREAM) -> list[Draw]:
    """The ungraded half of `collect`, of prompts with their draw numbers: (prompt, draw number, its completions)."""
    completions = engine.generate([Request(prompt.ids, params, sequence, stream=stream) for prompt, sequence in numbered])
    return [(*one, drawn) for one, drawn in zip(numbered, completions, strict=True)]


def grade(draws: Sequence[Draw], env: Env, decode: Decode) -> list[RolloutGroup]:
    """The other half: every completion becomes a graded rollout. Process 0 asks the environment, for all processes."""
    texts = [[decode(completion.ids.tolist()) for completion in completions] for _, _, completions in draws]
    verdicts = hosts.from_leader(lambda: _verdicts(draws, texts, env))
    return [RolloutGroup(prompt, [_rollout(prompt, *one) for one in zip(completions, own, graded, strict=True)], sequence)
            for (prompt, sequence, completions), own, graded in zip(draws, texts, verdicts, strict=True)]


def grade_one(prompt: Prompt, completion: Completion, env: Env, decode: Decode) -> Rollout:
    """One completion as a graded rollout; not for a job of several processes."""
    text = decode(completion.ids.tolist())
    return _rollout(prompt, completion, text, _verdict(prompt, completion, text, env))


def _verdicts(draws: Sequence[Draw], texts: Sequence[Sequence[str]], env: Env) -> list[list[tuple]]:
    """[group][completion] the environment's verdicts."""
    return [[_verdict(prompt, *one, env) for one in zip(completions, own, strict=True)]
            for (prompt, _, completions), own in zip(draws, texts, strict=True)]


def _verdict(prompt: Prompt, completion: Completion, text: str, env: Env) -> tuple:
    """(reward, info, achieved) as plain values that other processes can read."""
    one = env.grade(prompt.row, text, len(completion.ids), _truncated(completion))
    return float(one.reward), {name: float(value) for name, value in one.info.items()}, one.achieved


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
