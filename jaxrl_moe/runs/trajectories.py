"""Every completion that was drawn, one JSON object a line: enough to compute the log's reward and length
numbers again."""
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxrl_moe.learning.credit.rewards import turns_of
from jaxrl_moe.learning.samples import Sample
from jaxrl_moe.log_files import Tally, open_to_append, write_line
from jaxrl_moe.types import Dialogue, Prompt, Rollout, RolloutGroup, Trace


class Trajectories:
    """Appends the rollouts of each step to a JSONL file.

    Columns of a row:
      step: the optimisation step that the completion was drawn for (train), or after which it was drawn
        (evaluation).
      phase: "train", "dropped" (drawn for the step, but left out of its update), "failed" (its
        environment failed, or that of another episode of its group), "eval" (sampled) or "greedy".
      sequence, sample: draw number of the prompt, and which of its completions this is; with the seed they
        give the noise.
      prompt_index: row of the prompt in its data file, or in all files of several.
      env: the name of the prompt's environment, where the run has several.
      prompt_ids, prompt, completion_ids, completion: token ids and text.
      loss_mask: 1 on the tokens that the policy drew.
      logprobs: the sampler's, of the tempered distribution.
      trainer_logprobs: the trainer's own before the update, where these were computed, else null.
      policy_version: of each token's weights.
      reward, info: as graded, a reward of null where the environment failed; info holds named numbers such
        as {"correct": 1.0}.
      turns: [start, end, reward] of each turn, in completion tokens.
      messages: those that the environment showed after each turn, of the turns of `branches` first.
      dialogue: {"messages", "tools", "variables"} of the whole sequence, those that the policy drew as they
        are read from its tokens; null where an agent prompted with a text.
      branches: of an episode whose history was rewritten, its earlier token sequences, each with prompt_ids,
        completion_ids, loss_mask, logprobs, policy_version, turns and dialogue.
      notes: named texts, such as what a judge answered.
      outcome, message: how the episode ended (see types.Status), and what went wrong where it failed.
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
            for sample in range(len(group.rollouts)):
                prompt = self._decode(group.rollouts[sample].prompt_ids.tolist())
                trained = () if samples is None else samples[number][sample]
                write_line(self._file, self._row(step, phase, group, sample, prompt, trained))
                self._tally.add(step)

    def _row(self, step: int, phase: str, group: RolloutGroup, sample: int, prompt: str,
             trained: Sequence[Sample]) -> dict[str, Any]:
        rollout = group.rollouts[sample]
        return {
            "step": step, "phase": phase, "sequence": group.sequence, "sample": sample,
            "prompt_index": group.prompt.index, **_env(group.prompt),
            "prompt_ids": rollout.prompt_ids.tolist(), "prompt": prompt,
            **_drawn(rollout), "completion": rollout.text,
            "reward": float(rollout.reward) if rollout.status.trusted else None,
            "info": {name: float(value) for name, value in rollout.info.items()},
            "notes": dict(rollout.notes),
            "branches": [{"prompt_ids": branch.prompt_ids.tolist(), **_drawn(branch)}
                         for branch in rollout.branches],
            "outcome": rollout.status.value, "message": rollout.message,
            "messages": [list(turn.observation) for trace in rollout.traces for turn in turns_of(trace)],
            "trainer_logprobs": _trainers(rollout, trained),
            "used_reward": _one_or_list([sample.reward for sample in trained]),
            "advantage": _one_or_list([_advantage(sample) for sample in trained]),
            "truncated": bool(rollout.truncated)}

    def close(self) -> None:
        self._file.close()


def _env(prompt: Prompt) -> dict[str, str]:
    return {"env": prompt.env} if prompt.env else {}


def _drawn(trace: Trace) -> dict[str, Any]:
    return {"completion_ids": trace.completion_ids.tolist(), "loss_mask": trace.loss_mask.tolist(),
            "logprobs": trace.sampler_logprobs.tolist(), "policy_version": trace.policy_version.tolist(),
            "turns": [[turn.start, turn.end, float(turn.reward)] for turn in turns_of(trace)],
            "dialogue": _said(trace.dialogue) if trace.dialogue else None}


def _said(dialogue: Dialogue) -> dict[str, Any]:
    variables = None if dialogue.variables is None else dict(dialogue.variables)
    return {"messages": list(dialogue.messages), "tools": list(dialogue.tools), "variables": variables}


def _trainers(rollout: Rollout, trained: Sequence[Sample]) -> list[float] | None:
    """[T] of the last sequence, whose samples are the last ones: one, or one for each turn, which ends with
    it and has zeros before. A sample's log-probs stand one token earlier."""
    if not trained or trained[-1].old_logprobs_T is None:
        return None
    by_turns = len(trained) > len(rollout.traces)
    values = np.zeros(len(rollout.completion_ids))
    for sample in trained[-len(turns_of(rollout)):] if by_turns else trained[-1:]:
        own = sample.old_logprobs_T[len(rollout.prompt_ids) - 1:][:len(values)]
        values[:len(own)] += own
    return (values * rollout.loss_mask).tolist()


def _advantage(sample: Sample) -> float:
    return float(sample.advantages_T[np.argmax(sample.mask_T)]) if sample.trained_tokens else 0.0


def _one_or_list(values: Sequence[float]) -> float | list[float] | None:
    return values[0] if len(values) == 1 else list(values) or None
