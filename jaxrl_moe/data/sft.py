"""Conversations for supervised fine-tuning: token ids, and a mask that is 1 on what the assistant says."""
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl_moe.config import SftSection
from jaxrl_moe.data.prompts import check_messages, prompt_messages, string_messages
from jaxrl_moe.data.rows import DataError, Row, read_rows
from jaxrl_moe.data.tokenizer import Message, Tokenizer

_CALCULATOR = re.compile(r"<<[^<>]*>>")
_AGENT_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


class Conversation(NamedTuple):
    """One training sequence: ids [T] int32, and loss_mask [T] int32 with 1 on the tokens to be trained."""
    ids: np.ndarray
    loss_mask: np.ndarray


@dataclasses.dataclass(frozen=True)
class ConversationReport:
    """What became of a data set's rows; `trained_tokens` counts ones of the masks of those kept."""
    source: str
    rows: int
    kept: int
    too_long: int
    trained_tokens: int

    def __str__(self) -> str:
        return (f"{self.source}: {self.kept} conversations of {self.rows} rows with {self.trained_tokens} "
                f"trained tokens, {self.too_long} left out as too long")


def load_conversations(section: SftSection, tokenizer: Tokenizer, *, split: str = "train",
                       system_prompt: str = "",
                       suffix: str = "") -> tuple[list[Conversation], ConversationReport]:
    """Reads the rows of section.path and tokenises them with their masks.

    Args:
      section: where the rows are, and the longest conversation allowed.
      tokenizer: the model's own.
      split: which files to take where the path is a folder or a hub data set.
      system_prompt: put before a bare string prompt, as in the prompts of the RL phase.
      suffix: appended to a bare string prompt.

    Returns:
      The conversations in file order, and the counts. Those over max_tokens are left out and counted.

    Raises:
      DataError: a row of unknown shape, without a trained turn, or no conversation left.
    """
    rows = read_rows(section.path, split)
    every = [
        mask_conversation(*row_messages(row, system_prompt, suffix), tokenizer, row.where) for row in rows
    ]
    kept = [conversation for conversation in every if len(conversation.ids) <= section.max_tokens]
    trained = sum(int(conversation.loss_mask.sum()) for conversation in kept)
    report = ConversationReport(section.path, len(rows), len(kept), len(rows) - len(kept), trained)
    if not kept:
        raise DataError(f"No conversation is left: {report}. Raise sft.max_tokens (now "
                        f"{section.max_tokens}).")
    return kept, report


def row_messages(row: Row, system_prompt: str = "", suffix: str = "") -> tuple[list[Message], list[bool]]:
    """Returns the messages of a row, and for each whether it is trained.

    Rows may have `messages` (every assistant message is trained, save where its own `loss` is false),
    AgentTraj `conversations` (messages from gpt are trained where `loss` is true), a GSM8K `question` and
    `answer` (calculator spans are removed), or `prompt` and `answer` (or `completion`).

    Raises:
      DataError: the row is none of these, or what it holds cannot be read.
    """
    values = row.values
    if values.get("messages") is not None:
        messages = check_messages(values["messages"], row, "messages")
        return messages, [
            message["role"] == "assistant" and message.get("loss", True) is not False for message in messages
        ]
    if values.get("conversations") is not None:
        return _agent_messages(values["conversations"], row)
    if isinstance(values.get("question"), str) and isinstance(values.get("answer"), str):
        prompt = string_messages(values["question"], system_prompt, suffix)
        return _with_answer(prompt, remove_calculator_spans(values["answer"]))
    answer = values.get("answer", values.get("completion"))
    if isinstance(answer, str):
        return _with_answer(prompt_messages(row, system_prompt, suffix), answer)
    raise DataError(f"{row.where} is no conversation (its columns: {', '.join(values) or 'none'}). Each row "
                    "needs `messages`, AgentTraj `conversations`, or a `prompt` (or `question`) with an "
                    "`answer`.")


def remove_calculator_spans(answer: str) -> str:
    """Returns a GSM8K answer without its <<...>> calculator annotations."""
    return _CALCULATOR.sub("", answer)


def mask_conversation(messages: Sequence[Message], trained: Sequence[bool], tokenizer: Tokenizer,
                      where: str = "the conversation") -> Conversation:
    """Tokenises messages under the chat template; trains the text of the trained ones with its end token.

    What the template puts before the text (the generation prompt) and after the end token is not trained.
    Each trained span is tokenised by itself, because the engine too sees the generation prompt's ids before
    it draws the first token.

    Raises:
      DataError: nothing is trained, or the template writes an earlier part of the conversation differently
        once later messages follow, so that no one sequence shows the model what it would see in use.
    """
    text = tokenizer.render_text(messages, generation_prompt=False)
    ends = (tokenizer.decode([i], skip_special_tokens=False) for i in tokenizer.eos_ids)
    end_tokens = [token for token in ends if token]  # a file may name an id that no token of text has
    pieces = []
    masks = []
    done = 0
    for number in [number for number, train in enumerate(trained) if train]:
        start = _turn_start(text, messages, number, tokenizer, where)
        end = _turn_end(text, start, end_tokens)
        for piece, mask in ((text[done:start], 0), (text[start:end], 1)):
            pieces.append(tokenizer.encode(piece))
            masks.append(np.full(len(pieces[-1]), mask, np.int32))
        done = end
    if not pieces:
        raise DataError(f"{where} has no assistant turn to train on.")
    tail = tokenizer.encode(text[done:])
    return Conversation(np.concatenate([*pieces, tail]),
                        np.concatenate([*masks, np.zeros(len(tail), np.int32)]))


def _turn_start(text: str, messages: Sequence[Message], number: int, tokenizer: Tokenizer, where: str) -> int:
    """Where the assistant's own text of message `number` begins: after the prompt that would make a model
    write it."""
    before = tokenizer.render_text(messages[:number], generation_prompt=True)
    if not text.startswith(before):
        raise DataError(f"{where}: the chat template of {tokenizer.path!r} writes what comes before message "
                        f"{number} differently when later messages follow (some templates drop earlier "
                        "reasoning), so the conversation is not one sequence. Split it into one row per "
                        "assistant turn, with `loss` false on the earlier ones.")
    return len(before)


def _turn_end(text: str, start: int, end_tokens: Sequence[str]) -> int:
    """Where the turn that begins at `start` ends, its end token included; the end of the text if it has
    none."""
    ends = [position + len(token) for token in end_tokens if (position := text.find(token, start)) >= 0]
    return min(ends, default=len(text))


def _with_answer(prompt: Sequence[Message], answer: str) -> tuple[list[Message], list[bool]]:
    return [*prompt, {"role": "assistant", "content": answer}], [False] * len(prompt) + [True]


def _agent_messages(turns: Any, row: Row) -> tuple[list[Message], list[bool]]:
    """AgentTraj turns {from, value, loss} as messages, trained where `loss` is true."""
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{row.where}: `conversations` is not a list of {{from, value, loss}} turns.")
    messages = []
    trained = []
    for number, turn in enumerate(turns):
        role = _AGENT_ROLES.get(turn.get("from")) if isinstance(turn, Mapping) else None
        if role is None or not isinstance(turn.get("value"), str):
            raise DataError(f"{row.where}: turn {number} of `conversations` needs `from` "
                            f"({', '.join(_AGENT_ROLES)}) and a text in `value`.")
        if turn.get("loss") and role != "assistant":
            raise DataError(f"{row.where}: turn {number} of `conversations` asks for loss on a turn from "
                            f"{turn['from']}; only turns from gpt can be trained.")
        messages.append({"role": role, "content": turn["value"]})
        trained.append(turn.get("loss") is True)
    return messages, trained
