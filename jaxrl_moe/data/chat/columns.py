"""The conversation that a data row holds: its messages, and what other columns say of them."""
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jaxrl_moe import outside
from jaxrl_moe.data.chat.template import Message
from jaxrl_moe.data.rows import DataError, Row
from jaxrl_moe.outside import OutsideError

_UNSHOWN = {
    "functions": "write `tools`",
    **dict.fromkeys(("image", "images", "video", "videos", "audio", "audios"),
                    "the models here read text alone")}


class Chat(NamedTuple):
    """A conversation of a data row.

    Attributes:
      messages: as templates read them, contents as strings.
      trained: for each message whether it is trained.
      tools: descriptions of functions.
      variables: of the chat template.
    """
    messages: list[Message]
    trained: list[bool]
    tools: list[Message]
    variables: dict[str, Any]


def column(row: Row, name: str) -> Any:
    """A column of nested values: parsed where it is JSON as text, and without the nulls that parquet fills
    absent keys with. What those stood for in the writer's rows cannot be told: a null that was meant goes
    too, save in JSON as text.

    Raises:
      DataError: it is a text, but no JSON.
    """
    value = row.values.get(name)
    if not isinstance(value, str):
        return _without_nulls(value) if row.filled else value
    try:
        return outside.parse(value, f"{row.where}: `{name}`, a text,")
    except OutsideError as error:
        raise DataError(str(error)) from error


def refuse_contradiction(row: Row, read: str, *others: str, whole: bool = False) -> None:
    """Raises DataError where another column says something else than the one that is read: neither's text
    holds that of the other, as a prompt holds its question, or, for `whole`, they differ."""
    for other in others:
        if row.values.get(read) is None or row.values.get(other) is None:
            continue
        ours, theirs = (_words(row.values[name]) for name in (read, other))
        if ours != theirs and (whole or not (ours in theirs or theirs in ours)):
            raise DataError(f"{row.where}: `{read}` and `{other}` say different things: "
                            f"{outside.shown(ours)} and {outside.shown(theirs)}. Drop the column that is not "
                            "meant.")


def _words(value: Any) -> str:
    """What a prompt, an answer or a conversation says, without roles, and with single spaces."""
    if isinstance(value, str) and value.lstrip().startswith(("[{", "{")):
        with contextlib.suppress(OutsideError):  # a text like any other
            value = outside.parse(value, "it")
    return " ".join(" ".join(_texts(value)).split())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name in ("content", "value", "text"):
            yield from _texts(value.get(name))
    elif value is not None:
        yield str(value)


def with_context(row: Row, messages: Sequence[Message], trained: Sequence[bool]) -> Chat:
    """The conversation with what other columns say of it: `system`, `tools`, `chat_template_kwargs` and
    `enable_thinking`.

    Raises:
      DataError: one of these cannot be used, or there are columns with images or sounds.
    """
    for name, mend in _UNSHOWN.items():
        if row.values.get(name):
            raise DataError(f"{row.where}: the column `{name}` would not reach the model: {mend}, or drop "
                            "the column.")
    messages = list(messages)
    trained = list(trained)
    system = row.values.get("system")
    if isinstance(system, str) and system.strip():
        if messages and messages[0]["role"] == "system":
            raise DataError(f"{row.where} has a column `system`, and its messages begin with another system "
                            "message (data.system_prompt, if they have none of their own). Keep one.")
        messages.insert(0, {"role": "system", "content": system})
        trained.insert(0, False)
    return Chat(messages, trained, _tools(row), _variables(row))


def _tools(row: Row) -> list[Message]:
    tools = column(row, "tools") if row.values.get("tools") else []
    if not isinstance(tools, list):
        raise DataError(f"{row.where}: `tools` is {outside.kind(tools)}, not a list of descriptions of "
                        "functions.")
    return [_tool(tool, f"{row.where}: tool {number} of `tools`") for number, tool in enumerate(tools)]


def _tool(tool: Any, where: str) -> Message:
    """A description of a function in its frame, {"type": "function", "function": {name, ...}}."""
    framed = tool if isinstance(tool, dict) and "function" in tool else {"type": "function", "function": tool}
    function = framed["function"]
    if framed.get("type", "function") != "function" or not isinstance(function, dict) or not isinstance(
            function.get("name"), str):
        raise DataError(f"{where} is {outside.shown(tool)}; a description "
                        '{"type": "function", "function": {"name", "description", "parameters"}} is needed.')
    return {"type": "function", **framed}


def _variables(row: Row) -> dict[str, Any]:
    variables = column(row, "chat_template_kwargs") or {}
    if not isinstance(variables, dict):
        raise DataError(f"{row.where}: `chat_template_kwargs` is {outside.kind(variables)}, not an object.")
    thinking = row.values.get("enable_thinking")
    if thinking is None:
        return variables
    if not isinstance(thinking, bool):
        raise DataError(f"{row.where}: `enable_thinking` is {outside.shown(thinking)}; true or false is "
                        "needed.")
    if variables.get("enable_thinking", thinking) != thinking:
        raise DataError(f"{row.where}: `enable_thinking` and `chat_template_kwargs` differ.")
    return variables | {"enable_thinking": thinking}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
