"""Before a run: can this chat template do what episodes of many turns need?"""
import copy
import functools
import os.path
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl_moe.data.chat.links import linked_messages
from jaxrl_moe.data.chat.tools.form import ASKED, AUTO, looking, spoken
from jaxrl_moe.data.chat.turn_bridge import APPEND, BRANCH, TurnBridge
from jaxrl_moe.data.tokenizer import Message, Tokenizer, TokenizerError
from jaxrl_moe.types import Action

_MORE: Message = {"role": "user", "content": "and now?"}
_SEEN: Message = {"role": "tool", "content": "a wall"}
_SAYS: Message = {"role": "assistant", "content": "Hello."}
_CALLS: Message = {"role": "assistant", "content": "", "tool_calls": [looking(0)]}
_CALLS_TWICE: Message = {**_CALLS, "tool_calls": [looking(0), looking(1)]}


class _Turn(NamedTuple):
    """A turn as it is drawn, and what follows; cut: before its end."""
    said: Message
    observation: Sequence[Message]
    cut: bool = False


class _Played(NamedTuple):
    """The ids of the first prompt and of the bridges; rewritten: the template writes earlier turns anew."""
    prompt: list[int]
    bridges: list[list[int]]
    rewritten: bool


def check_template(tokenizer: Tokenizer, *, tools: Sequence[Message] = (),
                   variables: Mapping[str, Any] | None = None, history: str = APPEND, family: str = AUTO,
                   several: bool = False) -> tuple[str, ...]:
    """Plays a few conversations and compares the context that comes of it with the template's own rendering.

    Args:
      tokenizer: the model's.
      tools, variables, history, family: as TurnBridge takes them.
      several: whether environments answer a turn with several messages of the user.

    Returns:
      The conversations in which the template rewrites earlier turns: there, history "append" keeps what was
      sampled, and "branch" begins new samples.

    Raises:
      TokenizerError: the template cannot do one of them: says which, what happens, and what to do.
    """
    options = {"variables": variables, "tools": tools, "history": history, "family": family}
    link = TurnBridge(tokenizer, **options)
    if link.form and not link.form.family:
        raise TokenizerError(f"The chat template of {tokenizer.path!r} writes calls of tools in no form that "
                             "is known here, so none could be read. Use a model whose template writes them "
                             "as Hermes and Qwen, Llama 3 or Mistral do, or a task without tools.")
    rewritten = []
    for name, turns in _talks(link, several).items():
        try:
            played = [_Play(dated, options).whole(turns) for dated in _on_two_days(tokenizer)]
            _check_same(*played, history)
        except TokenizerError as error:
            raise TokenizerError(f"Episodes may need a conversation with {name}, and this model's chat "
                                 f"template has none: {error} Else use a model whose template has it, or a "
                                 "task that does without.") from error
        rewritten += [name] if played[0].rewritten else []
    return tuple(rewritten)


def _talks(link: TurnBridge, several: bool) -> dict[str, list[_Turn]]:
    end = _Turn(_SAYS, [_MORE])
    talks = {"turns of user and assistant": [end, end],
             "a turn that the token limit cuts": [_Turn(_SAYS, [_MORE], cut=True), end]}
    if link.reasoning_field:
        thinks = {**_SAYS, link.reasoning_field: "Let me see."}
        talks["reasoning"] = [_Turn(thinks, [_MORE]), _Turn(thinks, [_MORE])]
    if several:
        talks["several messages of the user in a row"] = [_Turn(_SAYS, [_MORE, _MORE]), end]
    if link.form:
        talks["a call of a tool and its result"] = [_Turn(_CALLS, [_SEEN]), end]
        talks["calls in turns that follow each other"] = [_Turn(_CALLS, [_SEEN]), _Turn(_CALLS, [_SEEN])]
        if link.form.several:
            talks["several calls and their results"] = [_Turn(_CALLS_TWICE, [_SEEN, _SEEN]), end]
    return talks


def _on_two_days(tokenizer: Tokenizer) -> list[Tokenizer]:
    """The tokenizer, as its template writes today's date on different days, if it does."""
    if "strftime_now" not in tokenizer.template.variables:
        return [tokenizer] * 2
    dated = []
    for day in ("Monday", "Friday"):
        hf = copy.copy(tokenizer.hf)
        clock = f"{{%- macro strftime_now(form) -%}}{day}{{%- endmacro -%}}"
        hf.chat_template = clock + hf.chat_template if isinstance(hf.chat_template, str) else {
            name: clock + source for name, source in hf.chat_template.items()}
        dated.append(Tokenizer(hf, tokenizer.path, tokenizer.declared))
    return dated


class _Play:
    """One conversation, drawn as the template would write it."""

    def __init__(self, tokenizer: Tokenizer, options: Mapping[str, Any]):
        self._tokenizer = tokenizer
        self._bridge = TurnBridge(tokenizer, **options)
        self._render = functools.partial(tokenizer.template.render, tools=options["tools"],
                                         variables=options["variables"])

    def whole(self, turns: Sequence[_Turn]) -> _Played:
        messages: list[Message] = [ASKED]
        context = self._bridge.prompt(messages)
        text = self._render(messages)
        played = _Played(context.tolist(), [], False)
        drawn: dict[int, np.ndarray] = {}
        for turn in turns:
            said = self._drawn(messages, turn)
            ids = self._tokenizer.encode_hidden(said, text)
            read = self._bridge.assistant(ids, turn.cut)
            _check_read(turn.said, read.action)
            drawn[len(messages)] = ids
            messages.append(read.message)
            following = self._bridge.next_prompt(np.concatenate([context, ids]), messages, drawn,
                                                 turn.observation)
            messages += turn.observation
            before, text = text + said, self._render(linked_messages(messages))
            context = following.ids
            played.bridges.append(context.tolist() if following.bridge is None else following.bridge.tolist())
            played = played._replace(rewritten=played.rewritten or not text.startswith(before))
            if not played.rewritten or self._bridge.history == BRANCH:
                self._check_context(context, text)
        return played

    def _drawn(self, messages: Sequence[Message], turn: _Turn) -> str:
        """The hidden text that a model would draw: what the template writes after the generation prompt."""
        talk = linked_messages([*messages, turn.said])
        asked = self._render(talk[:-1], generation_prompt=True)
        whole = self._render(talk, generation_prompt=False)
        begins = asked if whole.startswith(asked) else os.path.commonprefix([asked, whole])
        thoughts = "Let me see.\n</think>\n\n" if asked.rstrip().endswith("<think>") and (
            begins != asked) else ""
        left = self._bridge.ending(turn.said, turn.observation)
        end = self._tokenizer.literals.control(whole)[-left]
        return thoughts + whole[len(begins):end.start() if turn.cut else end.end()]

    def _check_context(self, context: np.ndarray, text: str) -> None:
        """Compares a context with the ids of the whole text. Where a tokenizer joins what stands on both
        sides of a turn's beginning, the ids differ, but not what they say."""
        own = self._tokenizer.encode_hidden(text)
        ours, theirs = (self._tokenizer.decode(ids, skip_special_tokens=False) for ids in (context, own))
        if not np.array_equal(own, context) and ours != theirs:
            start = len(os.path.commonprefix([ours, theirs]))
            raise TokenizerError(f"Prompt, turns and what stands between them say {ours[start:start + 40]!r} "
                                 f"where the template's own text has {theirs[start:start + 40]!r}. Use "
                                 "another tokenizer or template.")


def _check_read(said: Message, action: Action) -> None:
    calls = tuple(map(spoken, said.get("tool_calls", ())))
    if action.tool_calls != calls or action.malformed:
        faults = "".join(f" ({fault})" for fault in action.malformed)
        raise TokenizerError(f"Of the calls {list(calls)} that the template writes, "
                             f"{list(action.tool_calls)} are read back{faults}. Choose the family of tool "
                             "calls that the template writes, or auto.")


def _check_same(first: _Played, second: _Played, history: str) -> None:
    if first.bridges != second.bridges or (history == BRANCH and first.prompt != second.prompt):
        raise TokenizerError("It writes the same messages differently from one time to the next, as by the "
                             "date, so that no context could be relied on. Fix that by one of the template's "
                             "variables (such as date_string), or use a template that writes none.")
