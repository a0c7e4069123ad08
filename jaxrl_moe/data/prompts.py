"""Prompts: data rows under the chat template, filtered by length, in one global order whose position can be
saved."""
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.config import DataSection
from jaxrl_moe.data.rows import DataError, Row, read_rows
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.types import Prompt


@dataclasses.dataclass(frozen=True)
class PromptReport:
    """What became of a data set's rows.

    Attributes:
      source: the data set.
      rows: rows read.
      kept: rows that became prompts.
      too_long: rows left out because they exceed max_prompt_tokens.
      longest: tokens of the longest row, kept or not.
    """
    source: str
    rows: int
    kept: int
    too_long: int
    longest: int

    def __str__(self) -> str:
        return (f"{self.source}: {self.kept} prompts of {self.rows} rows, {self.too_long} left out as too "
                f"long (longest {self.longest} tokens)")


def load_prompts(section: DataSection, tokenizer: Tokenizer, *, evaluation: bool = False,
                 context: int = 0) -> tuple[list[Prompt], PromptReport]:
    """Reads the training (or evaluation) rows and tokenises them.

    Args:
      section: where the rows are, what is put around a bare string prompt, and the longest prompt allowed.
      tokenizer: the model's own.
      evaluation: take eval_path and eval_split instead of path and split.
      context: the model's context in tokens; 0 leaves it unchecked.

    Returns:
      The prompts in file order, and the counts. Rows over max_prompt_tokens are left out and counted.

    Raises:
      DataError: a row without a usable prompt, a prompt that fills the context, or no prompt left.
    """
    path, split = (section.eval_path, section.eval_split) if evaluation else (section.path, section.split)
    rows = read_rows(path, split)
    ids = [tokenizer.render(prompt_messages(row, section.system_prompt, section.suffix)) for row in rows]
    prompts = [Prompt(ids_T, row.values, row.index, row.where) for row, ids_T in zip(rows, ids)
               if len(ids_T) <= section.max_prompt_tokens]
    report = PromptReport(path, len(rows), len(prompts), len(rows) - len(prompts), max(map(len, ids)))
    if not prompts:
        raise DataError(f"No prompt is left: {report}. Raise data.max_prompt_tokens (now "
                        f"{section.max_prompt_tokens}).")
    _check_context(prompts, rows, context)
    return prompts, report


def _check_context(prompts: Sequence[Prompt], rows: Sequence[Row], context: int) -> None:
    """Refuses prompts that leave no room for a completion in the model's context."""
    over = [prompt for prompt in prompts if context and len(prompt.ids) >= context]
    if over:
        raise DataError(f"{rows[over[0].index].where}: the prompt has {len(over[0].ids)} tokens, but the "
                        f"model's context holds {context} with the completion ({len(over)} such rows). Lower "
                        "data.max_prompt_tokens so that longer rows are left out, or use a model with a "
                        "longer context.")


def prompt_messages(row: Row, system_prompt: str = "", suffix: str = "") -> list[Mapping[str, Any]]:
    """Returns the messages of a row: its `prompt` (a string or messages), or the `question` of a GSM8K row.

    A bare string becomes one user message, with the suffix after it and the system prompt (if any) before it;
    messages are taken as they are.

    Raises:
      DataError: the row has neither, or they have the wrong form.
    """
    prompt = row.values.get("prompt")
    prompt = row.values.get("question") if prompt is None else prompt
    if isinstance(prompt, str) and prompt.strip():
        return string_messages(prompt, system_prompt, suffix)
    if prompt is None or isinstance(prompt, str):
        raise DataError(f"{row.where} has no prompt (its columns: {', '.join(row.values) or 'none'}). Each "
                        "row needs a `prompt`, a string or a list of {role, content} messages, or a GSM8K "
                        "`question`.")
    return check_messages(prompt, row, "prompt")


def string_messages(prompt: str, system_prompt: str, suffix: str) -> list[Mapping[str, Any]]:
    """Returns a bare string as one user message, after the system prompt if there is one."""
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [*system, {"role": "user", "content": prompt + suffix}]


def check_messages(messages: Any, row: Row, column: str) -> list[Mapping[str, Any]]:
    """Returns `messages` if it is a non-empty list of {role, content}; other keys of a message stay.

    Raises:
      DataError: it is no such list.
    """
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{row.where}: `{column}` is {_name(messages)}, not a list of {{role, content}} "
                        "messages.")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise DataError(f"{row.where}: message {number} of `{column}` has no role; each message needs "
                            "{role, content}.")
        if not isinstance(message.get("content"), str) and not message.get("tool_calls"):
            raise DataError(f"{row.where}: message {number} of `{column}` ({message['role']}) has no text in "
                            "`content`.")
    return messages


def _name(value: Any) -> str:
    return "empty" if value == [] else f"a {type(value).__name__}"
