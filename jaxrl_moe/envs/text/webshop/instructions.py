"""What a policy is told before its first turn, and the commands that its answers give."""
import re

from jaxrl_moe.envs.text.answers import REACT, BadAction, last_command
from jaxrl_moe.envs.text.functions import GameFunction

PURPOSE = """\
You shop by an instruction: find the product that it asks for, take the options that it names, and buy it for
no more than it says. After each of your commands you are shown the page that it leads to, with [SEP] between
the things on it."""
INSTRUCTIONS = PURPOSE + """ The commands:
- search[words]: looks for products, as in search[slim fit green shirt]
- click[thing]: clicks a thing on the page: a product's id, an option's value, or a button, such as Next >,
< Prev, Features, Back to Search or Buy Now, which ends your visit
""" + REACT.format(thing="command")
TERSE_INSTRUCTIONS = "Buy what you are told, one command a turn:\nAction: search[words]\nAction: click[thing]"
CALLING = PURPOSE + "\nYou give a command by calling a function."
# The game's own form has no brackets, which in a command of a GameFunction enclose what may be left out.
FUNCTIONS = (
    GameFunction("search", "Looks for products.", "search {keywords}", {"keywords": "words to look for"}),
    GameFunction("click", "Clicks a thing on the page.", "click {value}", {
        "value": "a product's id, an option's value, or a button, such as Next > or Buy Now"}))
_COMMAND = re.compile(r"(search|click)[ \t]*\[(.+)\]", re.IGNORECASE)


def shopping_command(text: str) -> str:
    """The command that an answer gives, as "search WORDS" or "click THING": it begins what stands after the
    last "Action:", and ends with the last bracket of its line.

    Raises:
      BadAction: there is none; the message is for the policy that wrote it.
    """
    match = _COMMAND.match(last_command(text))
    if not match or not match[2].strip():
        raise BadAction("There is no command: write search[words] or click[thing] after \"Action:\".")
    return f"{match[1]} {match[2]}"


def instructions(terse: bool) -> str:
    """What goes before the first page, as a system message."""
    return TERSE_INSTRUCTIONS if terse else INSTRUCTIONS


def answer(command: str, thought: str, terse: bool) -> str:
    """A turn that gives a command as the instructions ask for."""
    return f"Action: {command}" if terse else f"Thought:\n{thought}\n\nAction:\n{command}"
