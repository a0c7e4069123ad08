"""Which tokens a call of a session begins with: those of an earlier call as they were drawn, where the agent
sends back what it was answered, and else what the chat template or the tokenizer makes of it."""
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrl_moe.data.chat.messages import called
from jaxrl_moe.data.chat.turn_bridge import TurnBridge
from jaxrl_moe.data.tokenizer import Message, Tokenizer, TokenizerError
from jaxrl_moe.rollout.agents.tree import Call, Chat
from jaxrl_moe.serving.openai.messages import template_messages
from jaxrl_moe.serving.openai.protocol import ChatRequest
from jaxrl_moe.serving.openai.reading import TAIL, Piece, Readers
from jaxrl_moe.serving.openai.service import offered_tools
from jaxrl_moe.types import Completion, Request

MOST_FRAMES = 16  # tools and variables whose bridges are kept


class SessionTalk:
    """Continues conversations and texts.

    Args:
      tokenizer: the model's.
      history: see TurnBridge.
    """

    def __init__(self, tokenizer: Tokenizer, history: str):
        self._tokenizer = tokenizer
        self._history = history
        self._bridges: dict[str, TurnBridge] = {}

    def continued(self, body: ChatRequest, calls: Sequence[Call]) -> tuple[np.ndarray, Chat] | None:
        """(the [T] ids of the prompt, its conversation so far) of a chat that goes on from one of the calls;
        None: it goes on from none, and the template is to render it."""
        said = tuple(template_messages(body.messages))
        call = self._before(body, said, calls)
        if call is None:
            return None
        place = len(call.chat.said)
        shown = _answering(said[place:], said[place - 1], call.chat.messages[-1])
        try:
            prompt = self._bridge(body).next_prompt(call.ids, call.chat.messages, call.chat.drawn, shown)
        except TokenizerError:  # what speaks against it speaks against rendering it too, and is told then
            return None
        return prompt.ids, Chat(said, (*call.chat.messages, *shown), call.chat.drawn)

    def _before(self, body: ChatRequest, said: Sequence[Message], calls: Sequence[Call]) -> Call | None:
        """The call whose conversation a chat goes on with; the longest, and of these the latest."""
        if body.continue_final_message or body.add_generation_prompt is False:
            return None
        fitting = [call for call in calls if call.chat is not None and _goes_on(said, call.chat.said)
                   and (call.chat.tools, call.chat.variables) == _frame(body)]
        return max(reversed(fitting), key=lambda call: len(call.chat.said), default=None)

    def heard(self, body: ChatRequest, before: Chat | None, request: Request, completion: Completion,
              readers: Readers) -> Chat | None:
        """The conversation of a call that was drawn; None where nothing can go on with it.

        Args:
          body: of the call.
          before: as continued() gives it.
          request, completion: of the engine.
          readers: of what is drawn, as clients are shown it.
        """
        said = before.said if before else tuple(template_messages(body.messages))
        messages = before.messages if before else said
        begun = messages[-1]["content"] if body.continue_final_message else ""
        if body.continue_final_message:
            messages = messages[:-1]
            said = said[:-1]
        try:
            turn = self._bridge(body).assistant(completion.ids, completion.finish_reason == "length", begun)
        except TokenizerError:  # as where the template has no form for calls of tools
            return None
        end = request.ids[-TAIL:].tolist() if body.offers_tools else None
        shown = _shown(readers.whole(request.params.stop_strings, end, completion), begun)
        drawn = {**(before.drawn if before else {}), len(messages): completion.ids}
        return Chat((*said, shown), (*messages, turn.message), drawn, *_frame(body))

    def text_ids(self, text: str, calls: Sequence[Call]) -> np.ndarray | None:
        """The [T] ids of a prompt of /v1/completions that begins with an earlier one and its completion;
        None: with none. Where the text leaves out the token that ended the completion, so do the ids."""
        forms = [form for call in calls if call.text is not None for form in self._forms(call)
                 if text.startswith(form[0])]
        if not forms:
            return None
        before, ids = max(forms, key=lambda form: len(form[0]))
        rest = text[len(before):]
        return np.concatenate([ids, self._tokenizer.encode(rest)]).astype(np.int32) if rest else ids

    def _forms(self, call: Call) -> list[tuple[str, np.ndarray]]:
        """(text, ids) of a call with all that was drawn, and as the agent was shown it: without special
        tokens. The ids then lack the one that ended it; others in its midst were drawn, and stay."""
        drawn = call.completion.ids
        shown = self._tokenizer.decode(drawn)
        forms = [(call.text + self._tokenizer.decode(drawn, skip_special_tokens=False), call.ids)]
        if len(drawn) and shown == self._tokenizer.decode(drawn[:-1]):  # nothing of it is shown
            forms.append((call.text + shown, call.ids[:-1]))
        else:
            forms.append((call.text + shown, call.ids))
        return forms

    def _bridge(self, body: ChatRequest) -> TurnBridge:
        tools, variables = _frame(body)
        key = repr((tools, variables))
        if key not in self._bridges:
            if len(self._bridges) >= MOST_FRAMES:
                self._bridges = {}
            self._bridges[key] = TurnBridge(self._tokenizer, variables=variables, tools=tools,
                                            history=self._history)
        return self._bridges[key]


def _frame(body: ChatRequest) -> tuple[tuple[Message, ...], dict[str, Any] | None]:
    """What a chat's template is given beside its messages."""
    return tuple(offered_tools(body)), body.chat_template_kwargs


def _goes_on(said: Sequence[Message], before: Sequence[Message]) -> bool:
    return len(said) > len(before) and all(map(_alike, said, before))


def _alike(one: Message, other: Message) -> bool:
    """Whether two messages say the same; the names of an assistant's calls are anybody's."""
    if one["role"] != "assistant" or other["role"] != "assistant":
        return one == other
    return _said(one) == _said(other)


def _said(message: Message) -> tuple[Any, ...]:
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return message.get("content") or "", message.get("reasoning_content") or "", calls


def _shown(piece: Piece, begun: str) -> Message:
    """What the agent is answered, as it sends it back."""
    calls = [called(call._asdict(), "a call") for call in piece.calls]
    message = {"role": "assistant", "content": begun + piece.content}
    return message | ({"tool_calls": calls} if calls else {})


def _answering(shown: Sequence[Message], answered: Message, drawn: Message) -> tuple[Message, ...]:
    """What follows an answer, with the results of its calls tied to these as the template names them."""
    names = {call.get("id"): ours["id"] for call, ours in
             zip(answered.get("tool_calls", ()), drawn.get("tool_calls", ()))}
    return tuple({**message, "tool_call_id": names[message["tool_call_id"]]}
                 if message.get("tool_call_id") in names else message for message in shown)
