"""The records that flow through the loop."""
import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl_moe.spelling import cut, escaped

Array = Any

LONGEST_WORD = 400   # characters of a message between two spaces, such as a path
LONGEST_LINE = 4000  # characters of a line of a message


class UserError(Exception):
    """Bad input: the message says what was wrong, where, and how to mend it. Scripts print it and exit with
    1. What it repeats of the input can be printed: control characters and halves of surrogate pairs stand
    there escaped, and what is endless has lost its middle."""

    def __init__(self, *arguments: Any):
        super().__init__(*(_printable(each) if isinstance(each, str) else each for each in arguments))


def _printable(text: str) -> str:
    lines = text.split("\n")
    if all(map(str.isprintable, lines)) and len(text) <= LONGEST_WORD:
        return text
    return "\n".join(map(_printable_line, lines))


def _printable_line(line: str) -> str:
    words = [cut(word, LONGEST_WORD) for word in line.split(" ")]
    return escaped(cut(" ".join(words), LONGEST_LINE))


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that cannot work, found before the first expensive second; str() gives it as a sentence, in
    which a long value is cut.

    Attributes:
      field: the setting, option, file or row, such as "rollout.page_size".
      value: what it is; None where `why` says it.
      why: what is wrong with it, as it goes on from "field = value", such as "is not a power of two".
      mend: what to do, as an imperative without a full stop, such as "use one, such as 32".
    """
    field: str
    value: Any
    why: str
    mend: str

    def __str__(self) -> str:
        value = ",".join(map(str, self.value)) if isinstance(self.value, tuple) else repr(self.value)
        value = "" if self.value is None else f" = {cut(escaped(value))}"
        return f"{cut(self.field)}{value} {self.why}: {self.mend}."


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One row of the prompt data, tokenised.

    Attributes:
      ids: [T] int32 token ids under the chat template, generation prompt included.
      row: the data row as read, unknown columns included.
      index: the row's position in its file, or in all files of several; names the prompt in logs.
      where: file and row as data.rows.Row says them, for messages; empty: not known.
      messages, tools, variables: what `ids` are the rendering of.
      env: the name of its environment, where a run has several; empty: it has one.
    """
    ids: np.ndarray
    row: Mapping[str, Any]
    index: int
    where: str = ""
    messages: "Messages" = ()
    tools: "Messages" = ()
    variables: Mapping[str, Any] | None = None
    env: str = ""

    @property
    def origin(self) -> str:
        """Where it comes from, to begin a message with."""
        return self.where or f"Prompt {self.index}"


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

    @property
    def truncates(self) -> bool:
        """Whether top-p, top-k or min-p can leave out a token."""
        return self.temperature > 0 and (self.top_p < 1 or self.top_k > 0 or self.min_p > 0)


@dataclasses.dataclass(frozen=True)
class Request:
    """n completions of one prompt.

    With the seed, (stream, sequence, sample, turn) decides the noise of a completion: `sequence` is the
    global draw counter, `sample` that of the first completion within its group, the others follow it.
    """
    ids: np.ndarray
    params: SamplingParams
    sequence: int
    turn: int = 0
    stream: int = 0
    sample: int = 0


@dataclasses.dataclass(frozen=True)
class Completion:
    """What the engine drew.

    Attributes:
      ids: [T] int32, the stop id included when one ended it.
      logprobs: [T] float32 of softmax(logits / temperature) over the full vocabulary (temperature 1 when
        greedy).
      finish_reason: "stop" or "length".
      policy_version: [T] int32, the version of the weights that drew each token.
      expert_ids: [prompt + T - 1, L, A] the experts that routed each token but the last, or None.
    """
    ids: np.ndarray
    logprobs: np.ndarray
    finish_reason: str
    policy_version: np.ndarray
    expert_ids: np.ndarray | None = None


class Status(enum.StrEnum):
    """How an episode ended. Of the failures nothing is known about the policy: their rewards mean nothing."""
    FINISHED = "finished"          # the environment said that it is done
    TRUNCATED = "truncated"        # a limit of tokens or turns came first; what there is counts
    UNREACHABLE = "unreachable"    # the environment's server cannot be reached
    RESET_FAILED = "reset_failed"  # it could not begin
    STEP_FAILED = "step_failed"    # it could not take an action
    TIMED_OUT = "timed_out"        # it did not answer in time
    CRASHED = "crashed"            # code of this process, such as a grader, raised an exception
    MALFORMED = "malformed"        # it answered with what it may not

    @property
    def trusted(self) -> bool:
        """Whether the episode says something about the policy, so that it may be trained on."""
        return self in (Status.FINISHED, Status.TRUNCATED)


@dataclasses.dataclass(frozen=True)
class Turn:
    """What the policy drew in one go: completion tokens start .. end, and what the environment gave for them.

    `achieved` names the achievements that stand after the turn, for algorithm.step_rewards; None: the
    environment tells of none. `observation` is what it showed then.
    """
    start: int
    end: int
    reward: float
    achieved: tuple[str, ...] | None = None
    observation: "Messages" = ()


@dataclasses.dataclass(frozen=True)
class Dialogue:
    """What a token sequence says as a conversation: the messages that it is the rendering of, those that the
    policy drew as they are read from their tokens, and the tools and variables of the chat template."""
    messages: "Messages"
    tools: "Messages" = ()
    variables: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Trace:
    """A token sequence in which the policy drew some tokens, each given all before it.

    Attributes:
      prompt_ids: [T0] int32.
      completion_ids: [T] int32, everything after the prompt; observation tokens have loss_mask 0.
      loss_mask: [T] int32, 1 on tokens the policy drew and is trained on.
      sampler_logprobs: [T] float32, 0 where loss_mask is 0.
      policy_version: [T] int32; of an observation's token, that of the token before it.
      expert_ids: [T0 + T - 1, L, A] or None.
      turns: in order; they hold all tokens with loss_mask 1. Empty: one turn, the whole completion for the
        whole reward.
      dialogue: its messages, where there are any: a prompt of an agent's may be a text.
    """
    prompt_ids: np.ndarray
    completion_ids: np.ndarray
    loss_mask: np.ndarray
    sampler_logprobs: np.ndarray
    policy_version: np.ndarray
    expert_ids: np.ndarray | None = dataclasses.field(default=None, kw_only=True)
    turns: tuple[Turn, ...] = dataclasses.field(default=(), kw_only=True)
    dialogue: Dialogue | None = dataclasses.field(default=None, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Rollout(Trace):
    """One finished episode: the token sequence that its last turn ends.

    Attributes:
      reward: the episode's scalar reward.
      text: the decoded completion, for people.
      truncated: a limit of tokens or turns ended it.
      info: named numbers from the grader, such as {"correct": 1.0}; "event" and "outcome" are what judges
        gave, for algorithm.reward_blend.
      status: how it ended.
      message: what went wrong, where it failed.
      branches: sequences of the episode's earlier turns that its later ones do not go on from, as where a
        chat template rewrites the history; in order, before this one.
      notes: named texts for people, such as what a judge answered.
    """
    reward: float
    text: str
    truncated: bool
    info: Mapping[str, float]
    status: Status = Status.FINISHED
    message: str = ""
    branches: tuple[Trace, ...] = ()
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def traces(self) -> "tuple[Trace, ...]":
        """All token sequences of the episode, in order."""
        return (*self.branches, self)

    @property
    def drawn(self) -> int:
        """Tokens that the policy drew."""
        return sum(int(trace.loss_mask.sum()) for trace in self.traces)


@dataclasses.dataclass(frozen=True)
class RolloutGroup:
    """The completions of one prompt; `sequence` is the prompt's draw in the global order."""
    prompt: Prompt
    rollouts: Sequence[Rollout]
    sequence: int

    @property
    def trusted(self) -> bool:
        """Whether each of its episodes says something about the policy."""
        return all(rollout.status.trusted for rollout in self.rollouts)

    @property
    def rewards_G(self) -> np.ndarray:
        return np.array([rollout.reward for rollout in self.rollouts], np.float32)


Messages = tuple[Mapping[str, Any], ...]  # of a chat template, such as {"role": "user", "content": "..."}


class ToolCall(NamedTuple):
    """A call of a function that was offered as a tool; arguments are a JSON object as text."""
    name: str
    arguments: str


@dataclasses.dataclass(frozen=True)
class Action:
    """What the policy did in one turn, as its environment sees it: text without special tokens, and never the
    prompt.

    Attributes:
      text: what was written; where tools are offered, without the calls.
      num_tokens: that were drawn, the stop token included.
      truncated: the token limit ended it.
      tool_calls: in order; none where no tools are offered.
      malformed: what was meant as a call and is none, each with what is wrong with it.
    """
    text: str
    num_tokens: int
    truncated: bool
    tool_calls: tuple[ToolCall, ...] = ()
    malformed: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Step:
    """What an environment says to an action.

    Attributes:
      reward: for this action alone.
      done: the episode has ended.
      info: named numbers for the logs; "correct" feeds pass@k, "event" and "outcome" feed
        algorithm.reward_blend.
      observation: what the policy is shown next; empty at the end.
      achieved: see Turn.
      notes: named texts for people, such as what a judge answered; those of the last step are kept.
      truncated: it has ended by a limit of the environment's own, and not by what the policy did.
    """
    reward: float
    done: bool = True
    info: Mapping[str, float] = dataclasses.field(default_factory=dict)
    observation: Messages = ()
    achieved: tuple[str, ...] | None = None
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    truncated: bool = False


class EnvError(UserError):
    """An environment failed, through no fault of the policy: the episode is worth nothing, and is tried again
    with a fresh one.

    Attributes:
      status: the failure it counts as.
      final: whether a further try is pointless, as where nobody has judged the episode in time; a subclass
        may say so of all of its own.
    """
    final: bool = False

    def __init__(self, status: Status, message: str, final: bool = False):
        super().__init__(message)
        self.status = status
        self.final = final or self.final
