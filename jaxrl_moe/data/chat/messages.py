"""Messages of data rows, in the spellings that people use, as chat templates read them."""
from collections.abc import Mapping
from typing import Any

from jaxrl_moe import outside
from jaxrl_moe.data.chat.template import Message
from jaxrl_moe.data.rows import DataError, Row
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.spelling import did_you_mean, quoted

ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
_SWITCHES = ("loss", "train", "training")  # whether a message is trained, as true or false
_FLAGS = (*_SWITCHES, "train_detail", "weight")


def check_messages(messages: Any, row: Row, name: str) -> list[Message]:
    """Returns the messages of a column as templates read them, without the marks for training.

    Raises:
      DataError: it is no non-empty list of messages, or one of them cannot be used.
    """
    if not isinstance(messages, list) or not messages:
        what = "empty" if messages == [] else outside.kind(messages)
        raise DataError(f"{row.where}: `{name}` is {what}, not a list of {{role, content}} messages.")
    return [_message(message, f"{row.where}: message {number} of `{name}`")
            for number, message in enumerate(messages)]


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise DataError(f"{where} has no role; each message needs {{role, content}}.")
    role = message["role"]
    if role not in ROLES:
        raise DataError(f"{where} has the role {quoted(role)}, which is none of {', '.join(ROLES)}."
                        f"{did_you_mean(role, ROLES)}")
    if message.get("content") is None and not any(
            message.get(name) for name in ("tool_calls", "function_call", "reasoning_content")):
        raise DataError(f"{where} ({role}) has no text in `content`.")
    asked(message, f"{where} ({role})")
    try:
        return template_message({key: value for key, value in message.items() if key not in _FLAGS},
                                f"{where} ({role})")
    except OutsideError as error:
        raise DataError(str(error)) from error


def template_message(message: Mapping[str, Any], where: str) -> Message:
    """Returns a message as templates read it: content as one string, arguments of tool calls as objects, and
    no fields that are null.

    Raises:
      OutsideError: content has other parts than text, or a call no name or arguments.
    """
    plain = {key: value for key, value in message.items() if value is not None}
    plain["content"] = _text(message.get("content"), where)
    if not plain.get("tool_calls"):
        plain.pop("tool_calls", None)
        return plain
    if not isinstance(plain["tool_calls"], list):
        raise OutsideError(f"{where}: `tool_calls` is {outside.kind(plain['tool_calls'])}, not a list.")
    plain["tool_calls"] = [called(call, f"{where}: tool_calls[{number}]")
                           for number, call in enumerate(plain["tool_calls"])]
    return plain


def called(call: Any, where: str) -> Message:
    """Returns a tool call as templates read it, {"type": "function", "function": {name, arguments}}, with
    its id if it has one. Arguments may be a JSON object as text, as OpenAI writes them.

    Raises:
      OutsideError: it is no such call.
    """
    given = {key: value for key, value in outside.as_object(call, where).items() if value is not None}
    fields = outside.Fields(given, where)
    frame = {"id": fields.string("id")} if "id" in fields else {}
    if "function" in fields:
        fields.only(("id", "type", "index", "function"))
        fields.string("type", "function", choices=("function",))
        fields = fields.object("function")
        fields.only(("name", "arguments"))
    else:  # without the frame
        fields.only(("id", "type", "name", "arguments"))
    name = fields.string("name")
    arguments = fields.values.get("arguments")
    where = f"{where}.function.arguments"
    if isinstance(arguments, str):
        arguments = outside.parse(arguments or "{}", where)
    if not isinstance(arguments, dict | None):
        raise OutsideError(f"{where} must be a JSON object, or one as text, such as "
                           "'{\"city\": \"Rome\"}'; it is " + f"{outside.kind(arguments)}.")
    return {**frame, "type": "function", "function": {"name": name, "arguments": arguments or {}}}


def asked(message: Mapping[str, Any], where: str) -> bool | None:
    """Whether a message asks to be trained, by `loss`, `train` or `training` (true, false) or `weight` (1,
    0); None: it says nothing.

    Raises:
      DataError: it asks for half measures, for two things, or for something that is no answer.
    """
    if message.get("train_detail") is not None:
        raise DataError(f"{where}: `train_detail` asks for parts of a message; only whole messages are "
                        "trained here.")
    answers = {name: message[name] for name in (*_SWITCHES, "weight") if message.get(name) is not None}
    for name, value in answers.items():
        if isinstance(value, bool) == (name == "weight") or value not in (0, 1):
            choices = "0 or 1" if name == "weight" else "true or false"
            raise DataError(f"{where}: `{name}` is {outside.shown(value)}, and must be {choices}: a message "
                            "is trained whole, or not at all.")
    if len(set(map(bool, answers.values()))) > 1:
        raise DataError(f"{where} asks for loss and for none: {', '.join(answers)} differ.")
    return bool(next(iter(answers.values()))) if answers else None


def _text(content: Any, where: str) -> str:
    """The content as one string; parts of text are joined as they are."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise OutsideError(f"{where}: `content` is {outside.kind(content)}; a text, or a list of parts "
                           '{"type": "text", "text": ...}, is needed.')
    texts = []
    for number, part in enumerate(content):
        fields = outside.Fields(part, f"{where}: content[{number}]")
        fields.string("type", choices=("text",))
        texts.append(fields.string("text"))
        extra = [key for key, value in part.items() if value is not None and key not in ("type", "text")]
        if extra:
            raise OutsideError(f"{where}: content[{number}] has the field {quoted(extra[0])}, which the "
                               "model would not see.")
    return "".join(texts)
