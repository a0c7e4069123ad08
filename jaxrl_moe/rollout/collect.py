"""Prompts x task x engine -> groups of graded completions."""
from collections.abc import Sequence

import numpy as np

from jaxrl_moe.hosts import hosts
from jaxrl_moe.protocols import Engine
from jaxrl_moe.rollout.episodes import Episodes, truncated
from jaxrl_moe.types import (
    Action,
    Completion,
    Outcome,
    Prompt,
    Request,
    Rollout,
    RolloutGroup,
    SamplingParams,
    Status,
    Step,
    Turn,
)

TRAIN_STREAM, EVAL_STREAM, GREEDY_STREAM, SERVED_STREAM = range(4)  # streams of noise that never meet


def collect(prompts: Sequence[Prompt], episodes: Episodes, engine: Engine, params: SamplingParams,
            first_sequence: int, stream: int = TRAIN_STREAM) -> list[RolloutGroup]:
    """Draws params.n completions of each prompt and grades them.

    Args:
      prompts: P prompts.
      episodes: grades the completions.
      engine: draws them.
      params: how they are drawn; n is the group size.
      first_sequence: draw number of the first prompt; the others follow. With the seed it decides the noise.
      stream: which stream of noise, so that evaluation and training share none.

    Returns:
      P groups of n rollouts, in the order of the prompts.
    """
    numbered = [(prompt, first_sequence + number) for number, prompt in enumerate(prompts)]
    return grade(draw(numbered, engine, params, stream), episodes, stream)


Draw = tuple[Prompt, int, list[Completion]]


def draw(numbered: Sequence[tuple[Prompt, int]], engine: Engine, params: SamplingParams,
         stream: int = TRAIN_STREAM) -> list[Draw]:
    """The ungraded half of `collect`, of prompts with their draw numbers: (prompt, draw number, its
    completions)."""
    completions = engine.generate(
        [Request(prompt.ids, params, sequence, stream=stream) for prompt, sequence in numbered])
    return [(*numbers, drawn) for numbers, drawn in zip(numbered, completions, strict=True)]


def grade(draws: Sequence[Draw], episodes: Episodes, stream: int = TRAIN_STREAM) -> list[RolloutGroup]:
    """The other half: every completion becomes a graded rollout. Process 0 asks the task, for all
    processes."""
    wanted = [(prompt, sequence, stream, episodes.action(completion))
              for prompt, sequence, drawn in draws for completion in drawn]
    told = hosts.from_leader(lambda: [plain(outcome) for outcome in episodes.play_all(wanted)])
    outcomes = iter(zip((action for *_, action in wanted), map(from_plain, told), strict=True))
    groups = []
    for prompt, sequence, drawn in draws:
        rollouts = [rollout(prompt, completion, *next(outcomes)) for completion in drawn]
        groups.append(RolloutGroup(prompt, rollouts, sequence))
    return groups


def grade_one(prompt: Prompt, sequence: int, completion: Completion, episodes: Episodes,
              stream: int = TRAIN_STREAM) -> Rollout:
    """One completion as a graded rollout; not for a job of several processes."""
    action = episodes.action(completion)
    return rollout(prompt, completion, action, episodes.play(prompt, sequence, stream, action))


def plain(outcome: Outcome) -> list:
    """An outcome of one step as values that other processes can read."""
    (step,) = outcome.turns
    achieved = None if step.achieved is None else list(step.achieved)
    return [outcome.reward, outcome.status.value, dict(outcome.info), achieved]


def from_plain(values: list) -> Outcome:
    """The other way."""
    reward, status, info, achieved = values
    step = Step(reward, info=info, achieved=None if achieved is None else tuple(achieved))
    return Outcome(reward, Status(status), info, (step,))


def rollout(prompt: Prompt, completion: Completion, action: Action, outcome: Outcome) -> Rollout:
    """A completion with the outcome of its episode of one step."""
    (step,) = outcome.turns
    achieved = None if step.achieved is None else tuple(step.achieved)
    turn = Turn(0, len(completion.ids), outcome.reward, achieved)
    return Rollout(prompt_ids=prompt.ids, completion_ids=completion.ids,
                   loss_mask=np.ones(len(completion.ids), np.int32), sampler_logprobs=completion.logprobs,
                   policy_version=completion.policy_version, reward=outcome.reward, text=action.text,
                   truncated=truncated(completion), info=outcome.info, expert_ids=completion.expert_ids,
                   turns=(turn,))
