"""The calls of a session as a tree of prefixes: each leaf is a token sequence of its own."""
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl_moe.data.chat.turn_bridge import continues
from jaxrl_moe.rollout.episode import Draft
from jaxrl_moe.types import Completion, Dialogue, Messages, Step


@dataclasses.dataclass(frozen=True)
class Chat:
    """What the messages of a call were, for the calls that go on from them.

    Attributes:
      said: as the agent sent them, and the answer as it was shown.
      messages: the same as the chat template is given them, with the turns that the policy drew as they are
        read from their tokens.
      drawn: the ids of these turns, by their places.
      tools, variables: of the chat template.
    """
    said: Messages
    messages: Messages
    drawn: Mapping[int, np.ndarray]
    tools: Messages = ()
    variables: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """A call that was drawn to its end.

    Attributes:
      prompt_ids: [T0] int32.
      completion: exactly as the engine drew it.
      parent: the call with whose tokens the prompt begins; None: it begins a sequence of its own.
      shown: what the agent says after the parent's turn, for people.
      chat: of a call of chat completions.
      text: of the prompt, where the agent sent one.
    """
    prompt_ids: np.ndarray
    completion: Completion
    parent: "Call | None" = None
    shown: Messages = ()
    chat: Chat | None = None
    text: str | None = None

    @property
    def ids(self) -> np.ndarray:
        """All tokens, the drawn ones included."""
        return np.concatenate([self.prompt_ids, self.completion.ids]).astype(np.int32)

    @property
    def path(self) -> "list[Call]":
        """The calls from the first of its sequence to this one."""
        return [*(self.parent.path if self.parent else ()), self]


def parent_of(prompt_ids: np.ndarray, calls: Sequence[Call]) -> Call | None:
    """The call with the most tokens, of those with whose tokens a prompt begins; of equal ones the latest."""
    before = [call for call in calls if continues(call.ids, prompt_ids)]
    return max(reversed(before), key=lambda call: len(call.ids), default=None)


def drafts(calls: Sequence[Call], steps: Sequence[Step] = ()) -> list[Draft]:
    """The token sequences of a session, one for each call that no other goes on from, in order of these.

    A turn that several sequences begin with is trained in the first of them; the others have it in their
    prompt.

    Args:
      calls: in the order in which they ended.
      steps: what the first of them came to, one each; the others are told nothing.
    """
    told = {id(call): step for call, step in zip(calls, steps)}
    return [_draft(each, told) for each in _sequences(calls)]


def in_order(calls: Sequence[Call]) -> bool:
    """Whether the turns of the sequences follow each other as the calls ended, so that they can be rewarded
    one by one. They do not where an agent goes back and forth between conversations."""
    turns = [call for each in _sequences(calls) for call in each]
    return all(turn is call for turn, call in zip(turns, calls))


def _sequences(calls: Sequence[Call]) -> list[list[Call]]:
    """The calls whose turns each sequence trains."""
    parents = {id(call.parent) for call in calls}
    trained: set[int] = set()
    sequences = []
    for leaf in [call for call in calls if id(call) not in parents]:
        fresh = [call for call in leaf.path if id(call) not in trained]
        trained.update(map(id, fresh))
        sequences.append(fresh)
    return sequences


def _draft(calls: Sequence[Call], told: Mapping[int, Step]) -> Draft:
    """A sequence of calls, each the parent of the next."""
    draft = Draft(calls[0].prompt_ids)
    for call, after in itertools.zip_longest(calls, calls[1:]):
        bridge = () if call is calls[0] else call.prompt_ids[len(call.parent.ids):]
        if len(bridge):
            draft.show(bridge)
        draft.draw(call.completion)
        step = told.get(id(call), Step(0.0, False))
        draft.told(dataclasses.replace(step, observation=after.shown if after else ()))
        if call.chat is not None:
            draft.dialogue = Dialogue(call.chat.messages, call.chat.tools, call.chat.variables)
    return draft
