"""Rows of supervised data, of whichever shape, as messages and which of them are trained."""
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe import outside
from jaxrl_moe.data.chat.columns import Chat, column, refuse_contradiction, with_context
from jaxrl_moe.data.chat.messages import asked, called, check_messages
from jaxrl_moe.data.prompts import prompt_messages, string_messages
from jaxrl_moe.data.rows import DataError, Row
from jaxrl_moe.data.tokenizer import Message
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.spelling import named, quoted

_CALCULATOR = re.compile(r"<<[^<>]*>>")
_TURN_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool"
}


def row_messages(row: Row, system_prompt: str = "", suffix: str = "") -> Chat:
    """Returns the messages of a row, and for each whether it is trained.

    Rows may have `messages` (every assistant message is trained, save where its own `loss`, `train` or
    `training` is false or its `weight` is 0), ShareGPT `conversations` (messages from gpt are trained; where
    any turn has a `loss`, as in AgentTraj, only those where it is true), a GSM8K `question` and `answer`
    (calculator spans are removed), or `prompt` and `answer` (or `completion`, a string or messages).

    Raises:
      DataError: the row is none of these, is two of these that differ, or what it holds cannot be read.
    """
    refuse_contradiction(row, "messages", "conversations", whole=True)
    for name in ("messages", "conversations"):
        if row.values.get(name) is not None:
            refuse_contradiction(row, name, "prompt", "question", "completion")
            return with_context(row, *_conversation(row, name))
    for name in ("chosen", "rejected"):
        if row.values.get(name) is not None:
            raise DataError(f"{row.where} has a column `{name}`: pairs of preferences are not what "
                            "supervised fine-tuning learns from. Write the wanted answer as `completion`.")
    refuse_contradiction(row, "answer", "completion", whole=True)
    gsm8k = row.values.get("prompt") is None and isinstance(row.values.get("question"), str)
    if gsm8k and isinstance(row.values.get("answer"), str):
        prompt = string_messages(row.values["question"], system_prompt, suffix)
        answer = {"role": "assistant", "content": remove_calculator_spans(row.values["answer"])}
        return with_context(row, [*prompt, answer], [False] * len(prompt) + [True])
    return _completed(row, system_prompt, suffix)


def remove_calculator_spans(answer: str) -> str:
    """Returns a GSM8K answer without its <<...>> calculator annotations."""
    return _CALCULATOR.sub("", answer)


def _completed(row: Row, system_prompt: str, suffix: str) -> Chat:
    """A prompt with its answer or completion."""
    name = "completion" if row.values.get("answer") is None else "answer"
    answer = row.values.get(name)
    if answer is None or (row.values.get("prompt") is None and row.values.get("question") is None):
        raise DataError(f"{row.where} is no conversation (its columns: {named(row.values)}). "
                        "Each row needs `messages`, ShareGPT `conversations`, or a `prompt` (or `question`) "
                        "with an `answer` (or `completion`).")
    prompt = prompt_messages(row, system_prompt, suffix)
    if isinstance(answer, str):
        messages: Sequence[Message] = [{"role": "assistant", "content": answer}]
        trained = [True]
    elif isinstance(answer, list):
        given = column(row, name)
        messages = check_messages(given, row, name)
        trained = _trained(given, messages, row, name)
    else:
        raise DataError(f"{row.where}: `{name}` is {outside.kind(answer)}; a text is needed.")
    if prompt.messages[-1]["role"] == "assistant":
        raise DataError(f"{row.where}: the prompt ends in an assistant message, and the `{name}` would be a "
                        "second one. Write what is trained as one message.")
    return prompt._replace(messages=[*prompt.messages, *messages], trained=[*prompt.trained, *trained])


def _conversation(row: Row, name: str) -> tuple[list[Message], list[bool]]:
    """The messages of a column, whether they say {role, content} or {from, value}."""
    turns = column(row, name)
    first = turns[0] if isinstance(turns, list) and turns else None
    roles = isinstance(first, Mapping) and "role" in first
    if name == "messages" and not (isinstance(first, Mapping) and "from" in first) or roles:
        messages = check_messages(turns, row, name)
        return messages, _trained(turns, messages, row, name)
    if first is None:
        raise DataError(f"{row.where}: `{name}` is not a list of {{from, value, loss}} turns.")
    return _turns(turns, row, name)


def _trained(given: Sequence[Mapping[str, Any]], messages: Sequence[Message], row: Row,
             name: str) -> list[bool]:
    """For each message whether it is trained: those of the assistant, unless they ask for no loss."""
    trained = []
    for number, (wish, message) in enumerate(zip(given, messages)):
        where = f"{row.where}: message {number} of `{name}` ({message['role']})"
        loss = asked(wish, where)
        if loss and message["role"] != "assistant":
            raise DataError(f"{where} asks for loss; only assistant messages can be trained.")
        trained.append(message["role"] == "assistant" and loss is not False)
    return trained


def _turns(turns: Sequence[Any], row: Row, name: str) -> tuple[list[Message], list[bool]]:
    """ShareGPT turns {from, value}, with AgentTraj's `loss` if they have it."""
    given = turns if isinstance(row.values[name], str) else row.values[name]  # nulls of parquet included
    with_loss = any(isinstance(turn, Mapping) and "loss" in turn for turn in given)
    messages = []
    trained = []
    for number, turn in enumerate(turns):
        where = f"{row.where}: turn {number} of `{name}`"
        speaker = turn.get("from") if isinstance(turn, Mapping) else None
        if not isinstance(speaker, str) or speaker not in _TURN_ROLES or not isinstance(
                turn.get("value"), str):
            raise DataError(f"{where} needs `from` ({', '.join(_TURN_ROLES)}) and a text in `value`.")
        unknown = set(turn) - {"from", "value", "loss", "train", "training", "train_detail", "weight"}
        if any(turn[key] is not None for key in unknown):
            raise DataError(f"{where} has the field {quoted(min(unknown))}, which the model would not see.")
        role = _TURN_ROLES[speaker]
        loss = asked(turn, where)
        if loss and role != "assistant":
            raise DataError(f"{where} asks for loss on a turn from {speaker}; only turns from gpt can be "
                            "trained.")
        messages.append(_calls(turn["value"], where) if speaker == "function_call" else {
            "role": role, "content": turn["value"]})
        trained.append(role == "assistant" and (loss is True if with_loss else loss is not False))
    return messages, trained


def _calls(value: str, where: str) -> Message:
    """What a turn from function_call calls: the JSON of {name, arguments}, or of a list of such."""
    try:
        calls = outside.parse(value, f"{where}: `value`")
        calls = calls if isinstance(calls, list) else [calls]
        return {"role": "assistant", "content": "", "tool_calls": [called(call, where) for call in calls]}
    except OutsideError as error:
        raise DataError(f"{error} A turn from function_call holds {{name, arguments}}.") from error
