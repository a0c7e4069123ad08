"""What a model writes where it calls a tool: JSON that must say which function and with what arguments, and
nothing besides."""
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxrl_moe import outside
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.types import ToolCall

# Besides the name, what says the arguments; whatever else there is might change what the call means.
_ARGUMENTS = ("arguments", "parameters")
_LABELS = ("type", "id")


class WrittenCall(NamedTuple):
    """A call, and the id that the model gave it, if any."""
    call: ToolCall
    id: str = ""


class Malformed(NamedTuple):
    """What was meant as a call and is none: its text, and a sentence that says what is wrong."""
    text: str
    why: str

    def __str__(self) -> str:
        return f"{outside.shown(self.text)}: {self.why}"


Passage = str | WrittenCall | Malformed  # what a turn is made of; a text is content


def parse_call(text: str) -> WrittenCall:
    """Reads one call from its JSON; see read_call."""
    return read_call(outside.parse(text, "the call"))


def read_call(value: Any) -> WrittenCall:
    """Returns the call that a JSON value describes. The arguments may be called parameters, as by Llama, and
    be an object or the text of one.

    Raises:
      OutsideError: it is none, or says more than a call can hold.
    """
    fields = outside.as_object(value, "the call")
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        raise OutsideError("the call names no function: its `name` must be a text.")
    given = [key for key in _ARGUMENTS if key in fields]
    if len(given) > 1:
        raise OutsideError("the call has both `arguments` and `parameters`; write one.")
    for key in fields:
        if key not in ("name", *_LABELS, *given):
            raise OutsideError(f"the call has the field {outside.shown(key)}; only a name and "
                               "arguments are read.")
    if fields.get("type", "function") != "function":
        raise OutsideError(f"the call is of the type {outside.shown(fields['type'])}, not \"function\".")
    arguments = _as_object(fields[given[0]]) if given else {}
    number = fields.get("id")
    return WrittenCall(ToolCall(_text(name, "name"), _text(arguments, "arguments")),
                       number if isinstance(number, str) else "")


def json_end(text: str, start: int) -> int:
    """Where the JSON value ends that begins at `start`.

    Raises:
      OutsideError: none begins there.
    """
    try:
        return json.JSONDecoder().raw_decode(text, start)[1]
    except RecursionError as error:
        raise OutsideError("the call is nested too deep.") from error
    except ValueError as error:
        raise OutsideError(f"the call is no JSON: {error}.") from error


def _as_object(arguments: Any) -> Mapping[str, Any]:
    if isinstance(arguments, str):
        arguments = outside.parse(arguments or "{}", "the text of the arguments")
    if arguments is not None and not isinstance(arguments, dict):
        raise OutsideError(f"the arguments are {outside.kind(arguments)}, not an object.")
    return arguments or {}


def _text(value: Any, what: str) -> str:
    """A name as it is, arguments as JSON; in both, nothing that cannot be said."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise OutsideError(f"the {what} of the call hold half of a surrogate pair, which is no "
                           "character.") from error
    return text
