"""Conversations for supervised fine-tuning: token ids, and a mask that is 1 on what the assistant says."""
import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np

from jaxrl_moe.config import SftSection
from jaxrl_moe.data.conversations import remove_calculator_spans, row_messages
from jaxrl_moe.data.message_turns import mask_messages
from jaxrl_moe.data.prompts import is_bare, reach_note, spelt_note
from jaxrl_moe.data.rows import DataError, Row, read_files
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.data.turns import Conversation, mask_conversation

__all__ = [
    "Conversation", "ConversationReport", "load_conversations", "mask_conversation",
    "remove_calculator_spans", "row_messages"
]

LOSS_MASKS = {"conversation": mask_conversation, "qwen": mask_messages}  # by sft.loss_mask


@dataclasses.dataclass(frozen=True)
class ConversationReport:
    """What became of a data set's rows; `trained_tokens` counts ones of the masks of those kept, `spelt` rows
    with text that spells a control token, which is encoded as text, `context` what is to be told of rows that
    data.system_prompt and data.suffix do not reach."""
    source: str
    rows: int
    kept: int
    too_long: int
    trained_tokens: int
    spelt: int = 0
    context: str = ""

    def __str__(self) -> str:
        return (f"{self.source}: {self.kept} conversations of {self.rows} rows with {self.trained_tokens} "
                f"trained tokens, {self.too_long} left out as too long{spelt_note(self.spelt)}"
                f"{self.context}")


def load_conversations(section: SftSection, tokenizer: Tokenizer, *, split: str = "train",
                       system_prompt: str = "",
                       suffix: str = "") -> tuple[list[Conversation], ConversationReport]:
    """Reads the rows of section.path, or of all files of section.files, and tokenises them with their masks.

    Args:
      section: where the rows are, and the longest conversation allowed.
      tokenizer: the model's own.
      split: which files to take where the path is a folder or a hub data set.
      system_prompt: put before a bare string prompt, as in the prompts of the RL phase.
      suffix: appended to a bare string prompt.

    Returns:
      The conversations in file order, and the counts. Those over max_tokens are left out and counted. It is
      warned of turns that end in a token which ends no completion.

    Raises:
      DataError: a row of unknown shape, without a trained turn, or no conversation left.
    """
    read = read_files(section.conversation_files or {"": ""}, split)
    rows = [row for each in read.values() for row in each]
    chats = [row_messages(row, system_prompt, suffix) for row in rows]
    mask = LOSS_MASKS[section.loss_mask]
    every = [
        mask(chat.messages, chat.trained, tokenizer, row.where, tools=chat.tools, variables=chat.variables)
        for row, chat in zip(rows, chats)
    ]
    kept = [conversation for conversation in every if len(conversation.ids) <= section.max_tokens]
    trained = sum(int(conversation.loss_mask.sum()) for conversation in kept)
    report = ConversationReport(section.source, len(rows), len(kept), len(rows) - len(kept), trained,
                                sum(tokenizer.literals.spelt(chat.messages) for chat in chats),
                                _context_note(rows, system_prompt, suffix))
    if not kept:
        raise DataError(f"No conversation is left: {report}. Raise sft.max_tokens (now "
                        f"{section.max_tokens}).")
    _warn_of_ends(kept, tokenizer)
    return kept, report


def _context_note(rows: Sequence[Row], system_prompt: str, suffix: str) -> str:
    settings = {"system_prompt": system_prompt, "suffix": suffix}
    return reach_note([name for name, value in settings.items() if value], sum(map(takes_context, rows)),
                      len(rows))


def takes_context(row: Row) -> bool:
    """Whether a row has a bare prompt, around which the system prompt and the suffix go."""
    return row.values.get("messages") is None and row.values.get("conversations") is None and is_bare(row)


def _warn_of_ends(conversations: Sequence[Conversation], tokenizer: Tokenizer) -> None:
    """Turns whose last token ends no completion teach a model to stop where nobody stops it."""
    ends = set()
    for ids, mask in conversations:
        last = np.flatnonzero(np.diff(np.append(mask, 0)) == -1)
        ends |= set(ids[last].tolist())
    for end in sorted(ends - set(tokenizer.eos_ids)):
        text = tokenizer.decode([end], skip_special_tokens=False)
        warnings.warn(f"The chat template of {tokenizer.path!r} ends the assistant's turns with {text!r} (id "
                      f"{end}), which ends no completion (these do: {tokenizer.eos_ids}): the model would "
                      "learn to write it, and be drawn on after it. Add the id to eos_token_id in the "
                      "model's generation_config.json.", stacklevel=3)
