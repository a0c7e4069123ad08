"""The command that an answer of AgentGym's form gives: "Thought:", some words, "Action:", and the command."""
import re

from jaxrl_moe.envs.answers import answer_part

REACT = "Answer in exactly this form, with one {thing}:\nThought:\nwhy you do it\n\nAction:\nthe {thing}"
_MARK = re.compile(r"\bAction:")
_STRIPPED = re.compile(r"[^A-Za-z0-9, ]+")


def react(command: str, thought: str) -> str:
    """An answer of the form of REACT."""
    return f"Thought:\n{thought}\n\nAction:\n{command}"


class BadAction(ValueError):
    """An answer without a single command; its message is for the policy that wrote it."""


def action_of(text: str) -> str:
    """Returns the command that an answer gives, of letters, digits, commas and single spaces alone.

    It stands in the first line after "Action:" that holds any of these; without "Action:" the whole answer is
    the command. What was thought before </think> counts for nothing.

    Raises:
      BadAction: there are several "Action:".
    """
    answer = answer_part(text)
    _, *commands = _MARK.split(answer, maxsplit=2)
    if len(commands) > 1:
        raise BadAction("Only one \"Action:\" is allowed in an answer. Nothing was done: answer again with "
                        "one.")
    if not commands:
        return _cleaned(answer)
    lines = map(_cleaned, commands[0].splitlines())
    return next(filter(None, lines), "")


def only_command(text: str) -> str:
    """The only command of an answer. Where there are several a server gets all of it, and says so."""
    try:
        return action_of(text)
    except BadAction:
        return text


def last_command(text: str) -> str:
    """What stands after the last "Action:", or all of it without one; what was thought before </think> counts
    for nothing."""
    return answer_part(text).rpartition("Action:")[2].strip()


def _cleaned(text: str) -> str:
    return " ".join(_STRIPPED.sub("", " ".join(text.split())).split())
