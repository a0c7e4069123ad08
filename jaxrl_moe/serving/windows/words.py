"""The words of a command line that are for another program."""
import re
from collections.abc import Collection, Mapping, Sequence

from jaxrl_moe.types import UserError


def names(word: str, options: Collection[str]) -> bool:
    """Whether a word gives one of the options, as --name, --noname or --name=value."""
    match = re.fullmatch(r"--?(\w+)(=.*)?", word, re.DOTALL)
    return match is not None and (match[1] in options or match[1].removeprefix("no") in options)


def without(words: Sequence[str], options: Mapping[str, bool]) -> list[str]:
    """The words that give none of the options.

    Args:
      options: by name, whether they are switches, which need no value.

    Raises:
      UserError: the value of one stands apart from its name, where the other program would take it for its
        own.
    """
    for word in words:
        name = word.lstrip("-")
        if names(word, options) and "=" not in word and not options.get(name, options.get(name[2:], False)):
            raise UserError(f"{word} has its value in a word of its own: write {word}=VALUE.")
    return [word for word in words if not names(word, options)]
