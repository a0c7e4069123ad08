"""Every completion that was drawn, one JSON object a line: enough to compute the log's reward and length
numbers again."""
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxrl_moe.learning.credit.rewards import turns_of
from jaxrl_moe.learning.samples import Sample
from jaxrl_moe.log_files import Tally, open_to_append, write_line
from jaxrl_moe.types import RolloutGroup


class Trajectories:
    """Appends the rollouts of each step to a JSONL file.

    Columns of a row:
      step: the optimisation step that the completion was drawn for (train), or after which it was drawn
        (evaluation).
      phase: "train", "dropped" (drawn for the step, but left out of its update), "eval" (sampled) or
        "greedy".
      sequence, sample: draw number of the prompt, and which of its completions this is; with the seed they
        give the noise.
      prompt_index: row of the prompt in its data file.
      prompt_ids, prompt, completion_ids, completion: token ids and text.
      loss_mask: 1 on the tokens that the policy drew.
      logprobs: the sampler's, of the tempered distribution.
      policy_version: of each token's weights.
      reward, info: as graded; info holds named numbers such as {"correct": 1.0}.
      turns: [start, end, reward] of each turn, in completion tokens.
      used_reward, advantage: what the update used, of the first trained token where advantages differ; null
        where there was no update, lists where each turn was a sample of its own.
      truncated: whether the token limit ended it.
    """

    def __init__(self, path: pathlib.Path, decode: Callable[[Sequence[int]], str],
                 tally: Tally | None = None):
        self._file = open_to_append(path)
        self._decode = decode
        self._tally = tally or Tally()

    def write(self, step: int, phase: str, groups: Sequence[RolloutGroup],
              samples: Sequence[Sequence[Sequence[Sample]]] | None = None) -> None:
        """Appends all rollouts; samples, if given, are those that each was trained on: [group][rollout]."""
        for number, group in enumerate(groups):
            prompt = self._decode(group.prompt.ids.tolist())
            for sample in range(len(group.rollouts)):
                trained = () if samples is None else samples[number][sample]
                write_line(self._file, self._row(step, phase, group, sample, prompt, trained))
                self._tally.add(step)

    def _row(self, step: int, phase: str, group: RolloutGroup, sample: int, prompt: str,
             trained: Sequence[Sample]) -> dict[str, Any]:
        rollout = group.rollouts[sample]
        return {
            "step": step, "phase": phase, "sequence": group.sequence, "sample": sample,
            "prompt_index": group.prompt.index, "prompt_ids": group.prompt.ids.tolist(), "prompt": prompt,
            "completion_ids": rollout.completion_ids.tolist(), "completion": rollout.text,
            "loss_mask": rollout.loss_mask.tolist(), "logprobs": rollout.sampler_logprobs.tolist(),
            "policy_version": rollout.policy_version.tolist(), "reward": float(rollout.reward),
            "info": {name: float(value) for name, value in rollout.info.items()},
            "turns": [[turn.start, turn.end, float(turn.reward)] for turn in turns_of(rollout)],
            "used_reward": _one_or_list([sample.reward for sample in trained]),
            "advantage": _one_or_list([_advantage(sample) for sample in trained]),
            "truncated": bool(rollout.truncated)}

    def close(self) -> None:
        self._file.close()


def _advantage(sample: Sample) -> float:
    return float(sample.advantages_T[np.argmax(sample.mask_T)]) if sample.trained_tokens else 0.0


def _one_or_list(values: Sequence[float]) -> float | list[float] | None:
    return values[0] if len(values) == 1 else list(values) or None
