"""From one turn of an episode to the next: what was sampled stays as it is, and the chat template says what
stands between."""
import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl_moe.data.chat.assistant_turn import AssistantTurn, TurnReader
from jaxrl_moe.data.chat.links import linked_messages, said_shortly, stand_in
from jaxrl_moe.data.chat.tools.form import ASKED, AUTO, tool_form
from jaxrl_moe.data.tokenizer import Message, Tokenizer, TokenizerError

APPEND = "append"
BRANCH = "branch"
Drawn = Mapping[int, np.ndarray]  # the place of a message in its conversation -> the ids that were sampled


class NextPrompt(NamedTuple):
    """What the policy is shown for its next turn.

    Attributes:
      ids: [T] int32, all of it.
      bridge: its end, after the context that it goes on from, mask 0; None: it goes on from none, and begins
        a new sample.
    """
    ids: np.ndarray
    bridge: np.ndarray | None


class TurnBridge:
    """Makes the prompts of an episode's turns.

    A context is the ids of the first prompt, then in turn those that were sampled, as they were, and a
    bridge: what the template writes from the token that ends the assistant's message up to the next
    generation prompt. A last sampled token that ends completions is the end of the message.

    Args:
      tokenizer: the model's.
      variables: of the chat template, such as enable_thinking.
      tools: descriptions of functions that may be called.
      history: "append" keeps all that was sampled in the context; "branch" shows the conversation as the
        template writes it, which may rewrite earlier turns.
      family: how calls are written, see tool_form.
    """

    def __init__(self, tokenizer: Tokenizer, *, variables: Mapping[str, Any] | None = None,
                 tools: Sequence[Message] = (), history: str = APPEND, family: str = AUTO):
        if history not in (APPEND, BRANCH):
            raise TokenizerError(f"history = {history!r} is neither append nor branch.")
        self.form = tool_form(tokenizer.template, family) if tools else None
        self.history = history
        self._tokenizer = tokenizer
        self._template = tokenizer.template
        self._reader = TurnReader(tokenizer, variables, self.form)
        self._options = {"tools": tools, "variables": variables}
        self._render = functools.partial(tokenizer.template.render, **self._options)

    @property
    def reasoning_field(self) -> str:
        """The field of a message that the template reads reasoning from; empty: none."""
        return self._reader.reasoning_field

    def prompt(self, messages: Sequence[Message]) -> np.ndarray:
        """Returns the [T] int32 ids of a first prompt; where its last message is the assistant's, the turn
        goes on with that.

        Raises:
          TokenizerError: the template refuses the messages, or leaves something of them out.
        """
        begun = messages[-1]["role"] == "assistant"
        return self._tokenizer.render(linked_messages(messages), continue_final=begun, **self._options)

    def assistant(self, ids: Sequence[int] | np.ndarray, truncated: bool, begun: str = "") -> AssistantTurn:
        """Returns the turn whose ids were sampled, stop token included; `begun`: the content of the
        assistant's message that ended the prompt, in whose place the turn's message stands."""
        return self._reader.read(ids, truncated, begun)

    def next_prompt(self, context: np.ndarray, messages: Sequence[Message], drawn: Drawn,
                    observation: Sequence[Message]) -> NextPrompt:
        """Returns the prompt of the next turn.

        Args:
          context: the ids of the turn just drawn and of all before it in its sample.
          messages: the conversation, which ends with the turn just drawn.
          drawn: the ids of its turns that were sampled.
          observation: what follows, as the environment says it.

        Raises:
          TokenizerError: the template refuses the observation, or leaves something of it out.
        """
        if self.history == APPEND:
            bridge = self.bridge(messages, drawn[len(messages) - 1], observation)
            return NextPrompt(np.concatenate([context, bridge]), bridge)
        self._check(messages[-1], observation)
        ids = self.rendered([*messages, *observation], drawn)
        return NextPrompt(ids, ids[len(context):] if continues(context, ids) else None)

    def bridge(self, messages: Sequence[Message], drawn_ids: Sequence[int] | np.ndarray,
               observation: Sequence[Message]) -> np.ndarray:
        """Returns the [T] int32 ids from the end of a turn up to the next one's beginning, with its end token
        only if none was sampled; see next_prompt."""
        self._check(messages[-1], observation)
        place = len(messages) - 1
        linked = linked_messages([*messages, *observation])
        turn, marks = stand_in(linked[place], str(linked))
        text = self._render([*linked[:place], turn, *linked[place + 1:]], generation_prompt=True)
        _, end = self._ends(turn, marks, text)
        sampled = self._tokenizer.decode_hidden(drawn_ids)
        ended = int(drawn_ids[-1]) in self._tokenizer.eos_ids or sampled.endswith(end[0])
        return self._tokenizer.encode_hidden(text[end.end() if ended else end.start():], sampled)

    def rendered(self, messages: Sequence[Message], drawn: Drawn) -> np.ndarray:
        """Returns the [T] int32 ids of a whole conversation as the template writes it, generation prompt
        included. Turns that it writes as they were sampled have the sampled ids."""
        messages = linked_messages(messages)
        text = self._render(messages, generation_prompt=True)
        encode = self._tokenizer.encode_hidden
        pieces = []
        done = 0
        for number in sorted(drawn):
            turn = self._tokenizer.decode_hidden(drawn[number])
            start = self._start(text, messages, number, turn)
            if start >= done:
                pieces += [encode(text[done:start], text[:done]), drawn[number]]
                done = start + len(turn)
        return np.concatenate([*pieces, encode(text[done:], text[:done])])

    def _start(self, text: str, messages: Sequence[Message], number: int, turn: str) -> int:
        """Where in the text of all messages a turn stands as it was sampled; -1: nowhere."""
        before = self._render(messages[:number], generation_prompt=True)
        if text.startswith(before):
            return len(before) if text.startswith(turn, len(before)) else -1
        before = self._render(messages[:number], generation_prompt=False)
        start = text.find(turn, len(before)) if text.startswith(before) else -1
        ends = {token[0] for token in self._template.literals.control(turn)[-1:]}
        passed = {token[0] for token in self._template.literals.control(text[len(before):max(start, 0)])}
        return start if ends and not ends & passed else -1

    def _check(self, message: Message, observation: Sequence[Message]) -> None:
        """Looks whether all that an observation says reaches the text."""
        talk = linked_messages([ASKED, said_shortly(message), *observation])
        self._template.check(talk, **self._options)

    def ending(self, message: Message, observation: Sequence[Message]) -> int:
        """How many control tokens the template writes from the end of an assistant's message of this kind on,
        while it stands last; the first of them ends it.

        Raises:
          TokenizerError: there is none.
        """
        turn, marks = stand_in(message, str(observation))
        text = self._render(linked_messages([ASKED, turn, *observation]), generation_prompt=True)
        alone, _ = self._ends(turn, marks, text)
        return len(self._template.literals.control(alone.string, alone.start()))

    def _ends(self, turn: Message, marks: Sequence[str], text: str) -> tuple[re.Match[str], re.Match[str]]:
        """The token that ends the message which has the marks: where it stands last, and in a text where
        others follow. It is the first one after all that is said; but where the model stops at a later one
        that the template writes in both, what comes before belongs to the message."""
        alone = self._after(self._render([ASKED, turn], generation_prompt=False), marks)
        within = self._after(text, marks)
        if not alone or not within:
            raise TokenizerError(f"The chat template of {self._tokenizer.path!r} ends an assistant's message "
                                 "with no control token, so nothing tells where a turn is over. Use a "
                                 "template that writes the end token after what the assistant says.")
        both = itertools.takewhile(lambda pair: pair[0][0] == pair[1][0], zip(alone, within))
        return next((pair for pair in both if pair[0][0] in self._eos), (alone[0], within[0]))

    def _after(self, text: str, marks: Sequence[str]) -> list[re.Match[str]]:
        """The control tokens after all marks. What stands later may repeat one, as the result of a call does
        its name."""
        starts = [text.find(mark) for mark in marks]
        if min(starts) < 0:
            raise TokenizerError(f"The chat template of {self._tokenizer.path!r} leaves out what the "
                                 "assistant said, or called, once it is answered. Use a template that keeps "
                                 "it.")
        return self._template.literals.control(text, max(starts))

    @functools.cached_property
    def _eos(self) -> frozenset[str]:
        return frozenset(self._tokenizer.decode_hidden([token]) for token in self._tokenizer.eos_ids)


def continues(context: Sequence[int] | np.ndarray, prompt: Sequence[int] | np.ndarray) -> bool:
    """Whether a prompt goes on from a context: begins with its ids."""
    return len(prompt) >= len(context) and np.array_equal(prompt[:len(context)], context)
