"""How a policy gives a game its commands: in words after "Action:", or as calls of functions."""
import dataclasses
import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from jaxrl_moe.envs.text.answers import BadAction
from jaxrl_moe.outside import Fields, OutsideError, parse
from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import Action, Messages, ToolCall, UserError

Answers = Literal["react", "functions"]
_PATTERNS = {"{": "(?P<", "}": ">.+?)", "[": "(?:", "]": ")?"}  # of a command with its arguments


@dataclasses.dataclass(frozen=True)
class GameFunction:
    """A command that is called as a function.

    Attributes:
      name: of the function.
      description: what it does, for the policy.
      command: of the game, with the arguments in braces, as "pour {obj} into {target}".
      arguments: {argument: what it is}, texts all. One that may be left out ends in "?", and what stands in
        square brackets around it in the command goes with it: "use {tool}[ on {obj}]".
    """
    name: str
    description: str
    command: str
    arguments: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def required(self) -> tuple[str, ...]:
        """Arguments that may not be left out."""
        return tuple(name for name in self.arguments if not name.endswith("?"))

    @property
    def described(self) -> Mapping[str, str]:
        """{argument: what it is}."""
        return {name.removesuffix("?"): text for name, text in self.arguments.items()}

    def schema(self) -> dict[str, Any]:
        """As a tool of OpenAI's form."""
        properties = {name: {"type": "string", "description": text} for name, text in self.described.items()}
        return {"type": "function", "function": {
            "name": self.name, "description": self.description, "parameters": {
                "type": "object", "properties": properties, "required": list(self.required),
                "additionalProperties": False}}}

    def said(self, given: Mapping[str, str]) -> str:
        """The command for these arguments."""
        text = self.command
        while "[" in text:
            before, _, rest = text.partition("[")
            optional, _, after = rest.partition("]")
            names = [name for _, name, _, _ in string.Formatter().parse(optional) if name]
            text = before + (optional if all(name in given for name in names) else "") + after
        return text.format_map(given)

    def given(self, command: str) -> dict[str, str] | None:
        """The arguments for which it says this command; None: there are none."""
        pattern = ""
        for part in re.split(r"([{}\[\]])", self.command):
            pattern += _PATTERNS.get(part) or (part if pattern.endswith("(?P<") else re.escape(part))
        match = re.fullmatch(pattern, command)
        return {name: text for name, text in match.groupdict().items() if text} if match else None


@dataclasses.dataclass(frozen=True)
class CommandForm:
    """How a policy gives its commands, and is told what came of them.

    Attributes:
      read: the command of an answer in words; raises BadAction where there is none.
      functions: by which commands are called; none: they are given in words.
    """
    read: Callable[[str], str]
    functions: Sequence[GameFunction] = ()

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """What Task.tools offers."""
        return tuple(each.schema() for each in self.functions)

    def command(self, action: Action) -> str:
        """The command that an answer gives.

        Raises:
          BadAction: it gives none; the message is for the policy that wrote it.
        """
        return called_command(action, self.functions) if self.functions else self.read(action.text)

    def observation(self, text: str, action: Action | None = None) -> Messages:
        """What the policy is shown after an action, or before the first: the result of its call, if it made
        one, and else words of the user's."""
        called = bool(self.functions) and action is not None and bool(action.tool_calls)
        return ({"role": "tool" if called else "user", "content": text},)


def called_command(action: Action, functions: Sequence[GameFunction]) -> str:
    """The command that an answer calls.

    Raises:
      BadAction: there is not one call, or it cannot be made; the message is for the policy that wrote it.
    """
    if action.malformed:
        raise BadAction(f"A call could not be read: {action.malformed[0]}. Nothing was done: call again.")
    if len(action.tool_calls) != 1:
        raise BadAction(f"{len(action.tool_calls)} functions were called, not one. Nothing was done: call "
                        "exactly one.")
    return _command(action.tool_calls[0], functions)


def call_of(command: str, functions: Sequence[GameFunction]) -> ToolCall:
    """The call that gives a command: where several functions do, that which leaves the fewest letters to its
    arguments.

    Raises:
      UserError: none does.
    """
    given = [(function.name, function.given(command)) for function in functions]
    calls = [(name, arguments) for name, arguments in given if arguments is not None]
    if not calls:
        raise UserError(f"No function gives the command {quoted(command)}: the functions are "
                        f"{', '.join(each.name for each in functions)}.")
    name, arguments = min(calls, key=lambda call: sum(map(len, call[1].values())))
    return ToolCall(name, json.dumps(arguments))


def _command(call: ToolCall, functions: Sequence[GameFunction]) -> str:
    for function in functions:
        if function.name == call.name:
            try:
                return function.said(_arguments(call, function))
            except OutsideError as error:
                raise BadAction(f"{error} Nothing was done: call again.") from error
    raise BadAction(f"There is no function of that name: the functions are "
                    f"{', '.join(each.name for each in functions)}. Nothing was done.")


def _arguments(call: ToolCall, function: GameFunction) -> dict[str, str]:
    where = f"The call of {function.name}"
    fields = Fields(parse(call.arguments or "{}", where), where)
    for name in fields.values:
        if name not in function.described:
            known = ", ".join(function.described) or "none"
            raise OutsideError(f"{where} has an argument that it does not take; it takes {known}.")
    given = {name: fields.string(name) for name in function.described if name in fields}
    for name in function.required:
        if name not in given:
            raise OutsideError(f"{where} lacks its argument {name}.")
    return {name: " ".join(text.split()) for name, text in given.items()}
