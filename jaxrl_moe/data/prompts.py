"""Prompts: data rows under the chat template, filtered by length, in one global order whose position can be
saved."""
import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from jaxrl_moe import outside
from jaxrl_moe.config import DataSection
from jaxrl_moe.data.chat.columns import Chat, column, refuse_contradiction, with_context
from jaxrl_moe.data.chat.messages import check_messages
from jaxrl_moe.data.rows import DataError, Row, read_files
from jaxrl_moe.data.seeds import seed_rows
from jaxrl_moe.data.tokenizer import Message, Tokenizer, TokenizerError
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.spelling import named
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
      spelt: rows with text that spells a control token; it is encoded as text.
      context: what is to be told of rows that data.system_prompt and data.suffix do not reach.
      parts: those of each file, where there are several.
    """
    source: str
    rows: int
    kept: int
    too_long: int
    longest: int
    spelt: int = 0
    context: str = ""
    parts: "tuple[PromptReport, ...]" = ()

    def __str__(self) -> str:
        if self.parts:
            return "\n".join(map(str, self.parts))
        return (f"{self.source}: {self.kept} prompts of {self.rows} rows, {self.too_long} left out as too "
                f"long (longest {self.longest} tokens){spelt_note(self.spelt)}{self.context}")


def load_prompts(section: DataSection, tokenizer: Tokenizer, *, evaluation: bool = False, context: int = 0,
                 envs: Collection[str] = ()) -> tuple[list[Prompt], PromptReport]:
    """Reads the training (or evaluation) rows and tokenises them.

    Args:
      section: where the rows are, what is put around a bare string prompt, and the longest prompt allowed.
      tokenizer: the model's own.
      evaluation: take the held-out rows instead.
      context: the model's context in tokens; 0 leaves it unchecked.
      envs: names of environments that rows of one file may name in a column `env`.

    Returns:
      The prompts in file order, and the counts. Rows over max_prompt_tokens are left out and counted.

    Raises:
      DataError: a row without a usable prompt, a prompt that fills the context, no prompt left of a file, or
        a system prompt or suffix that reaches none.
    """
    read = rows_of(section, evaluation)
    chats = {row.index: prompt_messages(row, section.system_prompt, section.suffix)
             for rows in read.values() for row in rows}
    context_note = check_reached(section, read)
    loaded = [_load(section, tokenizer, source, rows, chats, envs) for source, rows in read.items()]
    prompts = [prompt for prompts, _ in loaded for prompt in prompts]
    _check_context(prompts, context)
    reports = [report for _, report in loaded]
    last = dataclasses.replace(reports[-1], context=context_note)
    return prompts, together(section.eval_source if evaluation else section.source, [*reports[:-1], last])


def _load(section: DataSection, tokenizer: Tokenizer, source: str, rows: Sequence[Row],
          every: Mapping[int, Chat], envs: Collection[str]) -> tuple[list[Prompt], PromptReport]:
    """The prompts of one file; `every` has what rows say, by their index."""
    chats = [every[row.index] for row in rows]
    ids = [_encode(row, chat, tokenizer) for row, chat in zip(rows, chats)]
    prompts = [
        Prompt(ids_T, row.values, row.index, row.where, tuple(chat.messages), tuple(chat.tools),
               chat.variables, env_of(row, envs)) for row, chat, ids_T in zip(rows, chats, ids)
        if len(ids_T) <= section.max_prompt_tokens
    ]
    report = PromptReport(source, len(rows), len(prompts), len(rows) - len(prompts), max(map(len, ids)),
                          sum(tokenizer.literals.spelt(chat.messages) for chat in chats))
    if not prompts:
        raise DataError(f"No prompt is left: {report}. Raise data.max_prompt_tokens (now "
                        f"{section.max_prompt_tokens}).")
    return prompts, report


def together(source: str, reports: Sequence[PromptReport]) -> PromptReport:
    """The counts of all files of a data set; those of one are these."""
    if len(reports) == 1:
        return reports[0]
    counts = {name: sum(getattr(report, name) for report in reports)
              for name in ("rows", "kept", "too_long", "spelt")}
    return PromptReport(source, longest=max(report.longest for report in reports), parts=tuple(reports),
                        **counts)


def env_of(row: Row, envs: Collection[str]) -> str:
    """The name of a row's environment: that of its file, or of its column `env` where it is one of `envs`."""
    own = row.values.get("env")
    return row.env or (own if isinstance(own, str) and own in envs else "")


def rows_of(section: DataSection, evaluation: bool = False) -> dict[str, list[Row]]:
    """{where they come from: the rows of RL, or those held out}; raises DataError where there are none."""
    source = section.eval_source if evaluation else section.source
    files = section.held_out_files if evaluation else section.prompt_files
    seeds = section.eval_seeds if evaluation else section.seeds
    if seeds:
        return {source: seed_rows(seeds)}
    read = read_files(files or {"": ""}, section.eval_split if evaluation else section.split)
    return {f"{name}={files[name]}" if name else source: rows for name, rows in read.items()}


def check_reached(section: DataSection, read: Mapping[str, Sequence[Row]]) -> str:
    """Refuses a system prompt or suffix that is set and that no row's prompt takes; what is to be told where
    some do not. `read` has the rows by where they come from."""
    rows = [row for each in read.values() for row in each]
    reached = sum(map(is_bare, rows))
    names = [name for name in ("system_prompt", "suffix") if getattr(section, name)]
    if names and not reached:
        raise DataError(f"{', '.join(read)}: data.{' and data.'.join(names)} would have no effect: every "
                        f"prompt is a list of messages, from {rows[0].where} on, and these are taken as they "
                        "are. Leave it empty, and write it into the messages.")
    return reach_note(names, reached, len(rows))


def reach_note(names: Sequence[str], reached: int, rows: int) -> str:
    """For a report: how many rows the settings of data that are set (`names`) reach; empty where all."""
    if not names or reached == rows:
        return ""
    return f"; data.{' and data.'.join(names)} reach {reached} of {rows} rows, whose prompts are bare strings"


def is_bare(row: Row) -> bool:
    """Whether a row's prompt is a bare string."""
    return isinstance(row.values.get(_read_column(row)), str)


def spelt_note(rows: int) -> str:
    """For a report: how many rows spell control tokens."""
    return f"; rows that spell control tokens, encoded as plain text: {rows}" if rows else ""


def _encode(row: Row, chat: Chat, tokenizer: Tokenizer) -> np.ndarray:
    try:
        return tokenizer.render(chat.messages, tools=chat.tools, variables=chat.variables,
                                continue_final=continues(chat.messages))
    except TokenizerError as error:
        raise DataError(f"{row.where}: {error}") from error


def _check_context(prompts: Sequence[Prompt], context: int) -> None:
    """Refuses prompts that leave no room for a completion in the model's context."""
    over = [prompt for prompt in prompts if context and len(prompt.ids) >= context]
    if over:
        raise DataError(f"{over[0].where}: the prompt has {len(over[0].ids)} tokens, but the "
                        f"model's context holds {context} with the completion ({len(over)} such rows). Lower "
                        "data.max_prompt_tokens so that longer rows are left out, or use a model with a "
                        "longer context.")


def prompt_messages(row: Row, system_prompt: str = "", suffix: str = "") -> Chat:
    """Returns a row's `prompt` (a string or messages), or the `question` of a GSM8K row, or the `problem` of
    a MATH or AIME row, with what other columns say of it.

    A bare string becomes one user message, with the suffix after it and the system prompt (if any) before it;
    messages are taken as they are.

    Raises:
      DataError: the row has none of them, or they have the wrong form.
    """
    messages = _messages(row, system_prompt, suffix)
    return with_context(row, messages, [False] * len(messages))


def _messages(row: Row, system_prompt: str, suffix: str) -> list[Message]:
    name = _read_column(row)
    refuse_contradiction(row, name, "question", "messages", "conversations")
    prompt = column(row, name) if isinstance(row.values.get(name), list) else row.values.get(name)
    if isinstance(prompt, str) and prompt.strip():
        if _is_encoded(prompt):
            raise DataError(f"{row.where}: `{name}` is a text that spells a list of messages in JSON. Write "
                            "the list itself.")
        return string_messages(prompt, system_prompt, suffix)
    if prompt is None or isinstance(prompt, str):
        raise DataError(f"{row.where} has no prompt (its columns: {named(row.values)}). Each "
                        "row needs a `prompt`, a string or a list of {role, content} messages, or a GSM8K "
                        "`question`, or a `problem` of MATH or AIME.")
    return check_messages(prompt, row, name)


def _read_column(row: Row) -> str:
    given = (name for name in ("prompt", "question", "problem") if row.values.get(name) is not None)
    return next(given, "question")


def _is_encoded(prompt: str) -> bool:
    """Whether a text is a list of messages, written as JSON."""
    if not prompt.lstrip().startswith("[{"):
        return False
    try:
        values = outside.parse(prompt, "the prompt")
    except OutsideError:  # a text like any other
        return False
    return all(isinstance(value, dict) and "role" in value for value in values)


def string_messages(prompt: str, system_prompt: str, suffix: str) -> list[Message]:
    """Returns a bare string as one user message, after the system prompt if there is one."""
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [*system, {"role": "user", "content": prompt + suffix}]


def continues(messages: Sequence[Message]) -> bool:
    """Whether a prompt ends in the middle of the assistant's turn, which the completion then goes on with."""
    return messages[-1]["role"] == "assistant"
