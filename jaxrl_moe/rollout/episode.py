"""One episode: the tokens that the policy drew and was shown, turn by turn. It knows no engine and no
thread."""
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxrl_moe.rollout.scale import scaled
from jaxrl_moe.types import Action, Completion, Dialogue, Messages, Prompt, Rollout, Status, Step, Trace, Turn

MALFORMED = "malformed_calls"  # of a rollout's info: calls of tools that are none


class Talk(Protocol):
    """What turns messages into token ids, see data.chat.turn_bridge.TurnBridge."""

    def prompt(self, messages: Messages) -> np.ndarray: ...
    def assistant(self, ids: np.ndarray, truncated: bool, begun: str = "") -> Any: ...
    def next_prompt(self, context: np.ndarray, messages: Messages, drawn: Mapping[int, np.ndarray],
                    observation: Messages) -> Any: ...


class Draft:
    """A Trace that is being drawn."""

    def __init__(self, prompt_ids: np.ndarray):
        self.prompt_ids = prompt_ids
        self.turns: list[Turn] = []
        self.dialogue: Dialogue | None = None
        self._ids: list[np.ndarray] = []
        self._masks: list[np.ndarray] = []
        self._logprobs: list[np.ndarray] = []
        self._versions: list[np.ndarray] = []
        self._routes: list[np.ndarray] | None = []
        self.length = 0  # of what follows the prompt

    @property
    def ids(self) -> np.ndarray:
        """All tokens."""
        return np.concatenate([self.prompt_ids, *self._ids]).astype(np.int32)

    def draw(self, completion: Completion) -> None:
        """Appends a turn."""
        count = len(completion.ids)
        before = len(self.prompt_ids) + self.length
        self._append(completion.ids, np.ones(count, np.int32), completion.logprobs, completion.policy_version)
        self.turns.append(Turn(self.length - count, self.length, 0.0))
        if completion.expert_ids is None or self._routes is None:
            self._routes = None
            return
        known = sum(map(len, self._routes))  # the routes that earlier turns were drawn under stand
        self._routes.append(completion.expert_ids[known:before + count - 1])

    def show(self, ids: np.ndarray) -> None:
        """Appends what the environment shows."""
        count = len(ids)
        self._append(ids, np.zeros(count, np.int32), np.zeros(count, np.float32),
                     np.full(count, self._versions[-1][-1] if len(self._versions[-1]) else 0, np.int32))

    def told(self, step: Step) -> None:
        """What the environment gave for the last turn."""
        self.turns[-1] = dataclasses.replace(self.turns[-1], reward=step.reward, achieved=step.achieved,
                                             observation=step.observation)

    def trace(self) -> Trace:
        """What there is by now."""
        def joined(parts: Sequence[np.ndarray], dtype: Any) -> np.ndarray:
            return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)

        routes = np.concatenate(self._routes) if self._routes else None
        return Trace(self.prompt_ids, joined(self._ids, np.int32), joined(self._masks, np.int32),
                     joined(self._logprobs, np.float32), joined(self._versions, np.int32), expert_ids=routes,
                     turns=tuple(self.turns), dialogue=self.dialogue)

    def _append(self, ids: np.ndarray, mask: np.ndarray, logprobs: np.ndarray, versions: np.ndarray) -> None:
        self._ids.append(np.asarray(ids, np.int32))
        self._masks.append(mask)
        self._logprobs.append(logprobs)
        self._versions.append(versions)
        self.length += len(ids)


class Episode:
    """An episode under way.

    Args:
      prompt: the data row's.
      sequence, sample: its draw number, and its place in its group.
      rounds: most turns.
      talk: needed where there are several turns.
      tools: functions that are offered.
      scale: the range of its rewards' sum that is brought to 0..1; None: they are taken as they are.

    Attributes:
      attempt: how often it was begun anew, as its environment failed.
    """

    def __init__(self, prompt: Prompt, sequence: int, sample: int, rounds: int,
                 talk: Callable[[], Talk] | None, tools: Messages = (),
                 scale: tuple[float, float] | None = None):
        self.prompt = prompt
        self.sequence = sequence
        self.sample = sample
        self.rounds = rounds
        self.attempt = 0
        self.action: Action | None = None
        self._make_talk = talk
        self._tools = tools
        self._scale = scale
        self._clear()

    def _clear(self) -> None:
        self.turn = 0
        self._talk: Talk | None = None
        self._messages: tuple = self.prompt.messages
        self._drafts: list[Draft] = [Draft(self.prompt.ids)]
        self._steps: list[Step] = []
        self._drawn: dict[int, np.ndarray] = {}  # by the place of the turn's message
        self._malformed = 0

    @property
    def key(self) -> tuple[int, int]:
        return self.sequence, self.sample

    @property
    def ids(self) -> np.ndarray:
        """What the next turn goes on from."""
        return self._drafts[-1].ids

    def again(self) -> None:
        """Begins anew, with its own noise."""
        self.attempt += 1
        self._clear()

    def opened(self, messages: Messages) -> None:
        """The environment has begun with these messages."""
        self._talk = self._make_talk()
        self._messages = (*self._messages, *messages)
        self._drafts = [Draft(self._talk.prompt(self._messages))]

    def drew(self, completion: Completion, decode: Callable[[Sequence[int]], str]) -> Action:
        """The policy had its turn; what it did, as the environment sees it."""
        self.turn += 1
        self._drafts[-1].draw(completion)
        truncated = completion.finish_reason == "length"
        if self._talk is None:
            self.action = Action(decode(completion.ids.tolist()), len(completion.ids), truncated)
            self._answered(self.action.text)
        else:
            self.action = self._said(completion, truncated)
            self._malformed += len(self.action.malformed)
        if self._messages:
            tools = self._tools or self.prompt.tools
            self._drafts[-1].dialogue = Dialogue(self._messages, tools, self.prompt.variables)
        return self.action

    def _answered(self, text: str) -> None:
        """Appends the only turn to the prompt's messages, if it has any."""
        if self._messages:
            begun = self._messages[-1] if self._messages[-1]["role"] == "assistant" else None
            message = {"role": "assistant", "content": (begun["content"] if begun else "") + text}
            self._messages = (*(self._messages[:-1] if begun else self._messages), message)

    def _said(self, completion: Completion, truncated: bool) -> Action:
        """What was drawn as a message of the conversation; one that the prompt began is continued."""
        begun = self._messages[-1] if self._messages[-1]["role"] == "assistant" else None
        said = self._talk.assistant(completion.ids, truncated, begun["content"] if begun else "")
        before = self._messages[:-1] if begun else self._messages
        self._drawn[len(before)] = completion.ids
        self._messages = (*before, said.message)
        return said.action

    def played(self, drafts: Sequence[Draft], truncated: bool, steps: Sequence[Step],
               decode: Callable[[Sequence[int]], str]) -> None:
        """An agent has played it to its end, in these sequences; `steps` are what its calls but the last came
        to, if that is known."""
        self._drafts = list(drafts)
        self._steps = list(steps)
        self.turn = sum(len(draft.turns) for draft in drafts)
        last = drafts[-1].trace()
        self.action = Action(decode(last.completion_ids.tolist()), int(last.loss_mask.sum()), truncated)

    def told(self, step: Step) -> None:
        """What the environment says to the turn."""
        self._steps.append(step)
        self._drafts[-1].told(step)

    def go_on(self, room: Callable[[int], int]) -> bool:
        """Appends what the environment showed, for the next turn; begins another sequence where the chat
        template rewrites what went before. False, and nothing is appended, where no token would fit.

        room: how many tokens fit after so many.
        """
        observation = self._steps[-1].observation
        shown = self._talk.next_prompt(self.ids, self._messages, self._drawn, observation)
        if room(len(shown.ids)) < 1:
            return False
        self._messages = (*self._messages, *observation)
        if shown.bridge is None:
            self._drafts.append(Draft(shown.ids))
        else:
            self._drafts[-1].show(shown.bridge)
        return True

    def rollout(self, status: Status, decode: Callable[[Sequence[int]], str], message: str = "") -> Rollout:
        """The episode as it ended. Raises GradeError where its rewards leave the range that its task says."""
        total = sum(step.reward for step in self._steps)
        traces = [draft.trace() for draft in self._drafts]
        if self._scale is not None and status.trusted:
            total, traces = scaled(self.prompt, self._scale, total, traces)
        *branches, last = traces
        single = self._talk is None and self.action is not None
        text = self.action.text if single else decode(last.completion_ids.tolist())
        return Rollout(
            last.prompt_ids, last.completion_ids, last.loss_mask, last.sampler_logprobs, last.policy_version,
            expert_ids=last.expert_ids, turns=last.turns,
            reward=float(total), text=text,
            truncated=status == Status.TRUNCATED, info=self._info(), status=status, message=message,
            dialogue=last.dialogue, branches=tuple(branches),
            notes=dict(self._steps[-1].notes) if self._steps else {})

    def _info(self) -> dict[str, float]:
        info = dict(self._steps[-1].info) if self._steps else {}
        return info | {MALFORMED: float(self._malformed)} if self._tools else info
