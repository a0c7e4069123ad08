"""The records that flow through the loop, and the two protocols at its borders: the engine and the environment."""
import dataclasses
from collections.abc import Hashable, Mapping, Sequence, Set
from typing import Any, Protocol

import numpy as np

Array = Any


class UserError(Exception):
    """Bad input: the message says what was wrong, where, and how to mend it. Scripts print it and exit with 1."""


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One row of the prompt data, tokenised.

    Attributes:
      ids: [T] int32 token ids under the chat template, generation prompt included.
      row: the data row as read, unknown columns included.
      index: the row's position in its file; names the prompt in logs.
    """
    ids: np.ndarray
    row: Mapping[str, Any]
    index: int


@dataclasses.dataclass(frozen=True)
class SamplingParams:
    """How completions are drawn. temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 truncate nothing."""
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    n: int = 1
    return_routed_experts: bool = False


@dataclasses.dataclass(frozen=True)
class Request:
    """n completions of one prompt. `sequence` is the global draw counter that, with the seed, decides the noise."""
    ids: np.ndarray
    params: SamplingParams
    sequence: int
    turn: int = 0
    stream: int = 0


@dataclasses.dataclass(frozen=True)
class Completion:
    """What the engine drew.

    Attributes:
      ids: [T] int32, the stop id included when one ended it.
      logprobs: [T] float32 of softmax(logits / temperature) over the full vocabulary (temperature 1 when greedy).
      finish_reason: "stop" or "length".
      policy_version: [T] int32, the version of the weights that drew each token.
      expert_ids: [prompt + T - 1, L, A] the experts that routed each token but the last, or None.
    """
    ids: np.ndarray
    logprobs: np.ndarray
    finish_reason: str
    policy_version: np.ndarray
    expert_ids: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Turn:
    """What the policy drew in one go: completion tokens start .. end, and what the environment gave for them.

    `achieved` names the achievements that stand after the turn, for algorithm.step_rewards; None: the environment tells of none.
    """
    start: int
    end: int
    reward: float
    achieved: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Rollout:
    """One finished episode as a single token sequence.

    Attributes:
      prompt_ids: [T0] int32.
      completion_ids: [T] int32, everything after the prompt; observation tokens have loss_mask 0.
      loss_mask: [T] int32, 1 on tokens the policy drew and is trained on.
      sampler_logprobs: [T] float32, 0 where loss_mask is 0.
      policy_version: [T] int32.
      reward: the episode's scalar reward.
      text: the decoded completion, for people.
      truncated: the token limit ended it.
      info: named numbers from the grader, such as {"correct": 1.0}; "event" and "outcome" are what judges gave, for
        algorithm.reward_blend.
      expert_ids: [T0 + T - 1, L, A] or None.
      turns: in order; they hold all tokens with loss_mask 1. Empty: one turn, the whole completion for the whole reward.
    """
    prompt_ids: np.ndarray
    completion_ids: np.ndarray
    loss_mask: np.ndarray
    sampler_logprobs: np.ndarray
    policy_version: np.ndarray
    reward: float
    text: str
    truncated: bool
    info: Mapping[str, float]
    expert_ids: np.ndarray | None = None
    turns: tuple[Turn, ...] = ()


@dataclasses.dataclass(frozen=True)
class RolloutGroup:
    """The completions of one prompt; `sequence` is the prompt's draw in the global order."""
    prompt: Prompt
    rollouts: Sequence[Rollout]
    sequence: int

    @property
    def rewards_G(self) -> np.ndarray:
        return np.array([rollout.reward for rollout in self.rollouts], np.float32)


class Engine(Protocol):
    """Token ids in, token ids and log-probs out; text is never re-tokenised on the way.

    One thread drives it at a time. generate() draws a batch from beginning to end; submit, step, cancel and cut draw requests that
    come and go, through updates of the weights too.
    """

    @property
    def devices(self) -> Set[Any]:
        """The devices of this process's JAX that it draws on. While a trainer on one of them updates, nothing may be drawn."""

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """Returns request.params.n completions for each request, in order. What was submitted before may wait meanwhile."""

    def submit(self, request: Request) -> Hashable:
        """Queues a request and returns its handle. Raises UserError for one that cannot be met."""

    def step(self) -> Mapping[Hashable, list[Completion]]:
        """Goes on for a moment with what was submitted; returns the requests that are done by now, each once, by handle."""

    def cancel(self, handle: Hashable) -> None:
        """Drops a request with what it has drawn; one that is done is left alone."""

    def cut(self, handle: Hashable) -> list[Completion] | None:
        """Ends a request at what its samples have by now, as if they had come to their token limit. None, and nothing is done, where a
        sample has no token yet, or the engine cannot do it."""

    def publish(self, params: Any, version: int) -> Mapping[str, float] | None:
        """Hands the engine the weights to draw from, for requests in flight too; what that took, for the log, if it was work."""

    def release(self) -> None:
        """Frees the memory (KV pool) that an update needs; the next generate or step takes it back. Requests in flight keep their tokens,
        whose keys and values are computed anew."""

    def stats(self) -> Mapping[str, float]:
        """Totals since the engine was made: "tokens" drawn, and, if the engine knows, "kept_mass", their mean probability left by
        top-p and such."""

    def close(self) -> None:
        """Ends what the engine started, and frees what it holds."""


@dataclasses.dataclass(frozen=True)
class Grade:
    """A grader's verdict: the scalar reward, named numbers for the logs ("correct" feeds pass@k), and what is achieved, see Turn."""
    reward: float
    info: Mapping[str, float]
    achieved: tuple[str, ...] | None = None


class Env(Protocol):
    """A single-turn task: grades completion texts. It never sees the prompt's text mixed into the completion.

    It may have an attribute `lowest_reward`, the least reward that it gives: an algorithm that needs rewards of 0 or more is then
    refused before the run where that is below 0, and not by the first such reward. Above rollout.max_staleness = 0 several threads
    grade at once, as many as rollout.graders says.
    """

    def grade(self, row: Mapping[str, Any], completion: str, num_tokens: int, truncated: bool) -> Grade:
        """Scores one completion of one data row."""
