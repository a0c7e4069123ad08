"""From finished rollouts to training samples, one token sequence each, on the host.

In a sample's [T] arrays index t holds what concerns the prediction of token t+1; the last entry concerns
nothing.
"""
import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxrl_moe.config import AlgorithmSection
from jaxrl_moe.learning.credit.rewards import rewards_of, turns_of
from jaxrl_moe.rl.table import AlgorithmError
from jaxrl_moe.types import Rollout, RolloutGroup, Trace

TRUNCATED = ("keep", "mask", "penalise", "bootstrap")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One sequence to train on.

    Attributes:
      ids_T: int32 prompt and completion.
      mask_T: float32, 1 where the next token is trained.
      group: number of the prompt within the batch.
      reward: the scalar that the update uses, see learning.credit.rewards.
      advantages_T: float32, zeros until `with_advantages`.
      sampler_logprobs_T, old_logprobs_T, ref_logprobs_T: float32, or None where not known (or not needed).
      expert_ids_TLA: experts to replay for each token, -1 where the model routes live; or None.
      values_T: the critic's values, V_t at the index that predicts token t+1 and at the last one V after the
        sequence; or None.
      returns_T, value_mask_T: what values should have been, and 1 where one is trained; or None.
      truncated: the token limit ended it.
      rollout: number of the rollout within its group.
      turn: number of the turn within its rollout, where each turn is a sample; else 0.
    """
    ids_T: np.ndarray
    mask_T: np.ndarray
    group: int
    reward: float
    advantages_T: np.ndarray
    sampler_logprobs_T: np.ndarray | None = None
    old_logprobs_T: np.ndarray | None = None
    ref_logprobs_T: np.ndarray | None = None
    expert_ids_TLA: np.ndarray | None = None
    values_T: np.ndarray | None = None
    returns_T: np.ndarray | None = None
    value_mask_T: np.ndarray | None = None
    truncated: bool = False
    rollout: int = 0
    turn: int = 0

    @property
    def trained_tokens(self) -> int:
        return int(self.mask_T.sum())


def from_groups(groups: Sequence[RolloutGroup], section: AlgorithmSection | None = None) -> list[Sample]:
    """One sample per token sequence of a rollout, or under returns = turns one per turn, in order.

    Args:
      groups: finished groups; equal prompts drawn twice are two groups.
      section: says what becomes of several turns, of long completions and of those that hit the token limit:
        "keep" them as they are, "mask" their tokens (their rewards still count in the group's baseline),
        "penalise" their rewards, or "bootstrap" them from a critic's value. A turn's sample ends with the
        turn; only the turn's own tokens are trained.

    Raises:
      AlgorithmError: a setting or a rollout that cannot be.
    """
    section = section or AlgorithmSection()
    if section.truncated not in TRUNCATED:
        raise AlgorithmError(f"truncated must be one of {', '.join(TRUNCATED)}; got {section.truncated!r}.")
    return [sample for number, group in enumerate(groups) for index, rollout in enumerate(group.rollouts)
            for sample in _from_rollout(rollout, (number, index), section)]


def by_rollout(groups: Sequence[RolloutGroup], samples: Sequence[Sample]) -> list[list[list[Sample]]]:
    """[group][rollout] the samples that from_groups made of each rollout."""
    made = [[[] for _ in group.rollouts] for group in groups]
    for sample in samples:
        made[sample.group][sample.rollout].append(sample)
    return made


def _from_rollout(rollout: Rollout, numbers: tuple[int, int], section: AlgorithmSection) -> list[Sample]:
    """Those of one episode. Its sequences, of which there are several where the history was rewritten, have
    its reward each; its turns have each their own."""
    for trace in rollout.traces:
        _check(trace)
    rewards = rewards_of(rollout, section)
    pieces = [(trace, (0, len(trace.completion_ids))) for trace in rollout.traces]
    if section.returns == "turns":
        pieces = [(trace, (turn.start, turn.end)) for trace in rollout.traces for turn in turns_of(trace)]
    else:
        rewards = np.repeat(rewards, len(pieces))
    samples = []
    for number, ((trace, span), reward) in enumerate(zip(pieces, rewards, strict=True)):
        truncated = rollout.truncated and number + 1 == len(pieces)
        sample = _sample(trace, numbers, span, float(reward), truncated, section.truncated == "mask")
        samples.append(dataclasses.replace(sample, turn=number if section.returns == "turns" else 0))
    return samples


def _check(trace: Trace) -> None:
    if len(trace.prompt_ids) == 0:
        raise AlgorithmError("A rollout has an empty prompt, so that nothing predicts its first token.")
    routed = len(trace.prompt_ids) + len(trace.completion_ids) - 1
    if trace.expert_ids is not None and len(trace.expert_ids) != routed:
        raise AlgorithmError(f"A rollout of {routed + 1} tokens has the routes of {len(trace.expert_ids)}: "
                             "its engine must return those of each token but the last, -1 where it knows "
                             "none.")


def _sample(rollout: Trace, numbers: tuple[int, int], span: tuple[int, int], reward: float, truncated: bool,
            masked: bool) -> Sample:
    """The sample that trains the completion's tokens of a span, given all that came before them."""
    start, end = span
    prompt = len(rollout.prompt_ids)
    length = len(rollout.prompt_ids) + end
    routes = _routes(rollout.expert_ids, prompt + len(rollout.completion_ids))
    mask = _shifted(prompt, length, rollout.loss_mask[:end])
    mask[:prompt + start - 1] = 0
    if truncated and masked:
        mask[:] = 0
    return Sample(
        ids_T=np.concatenate([rollout.prompt_ids, rollout.completion_ids[:end]]).astype(np.int32),
        mask_T=mask,
        group=numbers[0],
        reward=reward,
        advantages_T=np.zeros(length, np.float32),
        sampler_logprobs_T=_shifted(prompt, length, rollout.sampler_logprobs[:end]),
        expert_ids_TLA=None if routes is None else routes[:length],
        truncated=truncated,
        rollout=numbers[1])


def _shifted(prompt: int, length: int, completion_values: np.ndarray) -> np.ndarray:
    """Values of the completion's tokens, moved to the index that predicts them; 0 elsewhere."""
    values = np.zeros(length, np.float32)
    values[prompt - 1:length - 1] = completion_values
    return values


def _routes(expert_ids: np.ndarray | None, length: int) -> np.ndarray | None:
    """[length, L, A]: the last token was sampled but never routed, so it gets -1."""
    if expert_ids is None:
        return None
    signed = np.result_type(expert_ids.dtype, np.int8)
    routes = np.full((length, *expert_ids.shape[1:]), -1, signed)
    routes[:len(expert_ids)] = expert_ids
    return routes


def from_conversations(conversations: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Sample]:
    """Samples for supervised training from (ids, loss_mask) pairs; advantage 1, so that loss 'reinforce' is
    the NLL."""
    samples = []
    for number, (ids, loss_mask) in enumerate(conversations):
        mask = np.zeros(len(ids), np.float32)
        mask[:-1] = np.asarray(loss_mask)[1:]
        samples.append(Sample(np.asarray(ids, np.int32), mask, number, 0.0, np.ones(len(ids), np.float32)))
    return samples


def trainable(samples: Sequence[Sample]) -> list[Sample]:
    """The samples that have a token to train on.

    Raises:
      AlgorithmError: there is none.
    """
    kept = [sample for sample in samples if sample.trained_tokens]
    if not kept:
        raise AlgorithmError(f"The batch has nothing to train on: none of its {len(samples)} sequences has a "
                             "trained token. If completions hit the token limit, raise it, or do not mask "
                             "truncated ones.")
    return kept


def with_values(samples: Sequence[Sample], field: str, values: Sequence[np.ndarray]) -> list[Sample]:
    """The samples with one [T] field, such as "old_logprobs_T", set from a list in the same order."""
    return [
        dataclasses.replace(sample, **{field: value}) for sample, value in zip(samples, values, strict=True)
    ]
