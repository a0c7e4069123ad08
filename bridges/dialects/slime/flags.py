"""slime's command line as argparse reads it: --name value, --name=value, --switch, and lists after a flag."""
from collections.abc import Mapping, Sequence
from typing import Any

from bridges.dialects.kinds import ANY, Invalid, Kind, of_words
from jaxrl_moe.config import ConfigError
from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import Problem


def read(words: Sequence[str], kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """{name without hyphens at its front: typed value}; of a flag that stands twice the last counts, as
    argparse has it.

    Args:
      words: of the command line.
      kinds: what each flag takes.

    Raises:
      ConfigError: unknown flags, words that belong to none, values that are missing or of another type.
    """
    values: dict[str, Any] = {}
    problems: list[Problem | str] = []
    at = 0
    while at < len(words):
        name, equals, value = words[at].partition("=")
        at += 1
        kind = kinds.get(name.removeprefix("--")) if name.startswith("--") else None
        following = _following(words, at)
        at += min(len(following), _most(kind, bool(equals), len(following)))
        if kind is None:
            problems.append(_unknown(name, kinds))
            continue
        try:
            values[name[2:]] = _value(kind, [value] if equals else following, bool(equals))
        except Invalid as refused:
            problems.append(Problem(name, None, refused.why, refused.mend))
    if problems:
        raise ConfigError(*problems)
    return values


def _following(words: Sequence[str], at: int) -> list[str]:
    """The words after a flag up to the next one; a negative number is none."""
    taken = []
    for word in words[at:]:
        if word.startswith("-") and not _is_number(word):
            break
        taken.append(word)
    return taken


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _most(kind: Kind | None, has_equals: bool, count: int) -> int:
    """How many of the words after a flag are its own; all of an unknown one, so that it is told once."""
    if has_equals:
        return 0
    return count if kind is None or kind.words < 0 else kind.words


def _value(kind: Kind, words: Sequence[str], has_equals: bool) -> Any:
    if kind.words == 0:
        if has_equals:
            raise Invalid("takes no value", "leave it out")
        return True
    if not words and kind.words != ANY:
        raise Invalid("has no value", "write it after the flag")
    return of_words(kind, list(words if kind.words < 0 else words[:1]))


def _unknown(name: str, kinds: Mapping[str, Kind]) -> str:
    if not name.startswith("--"):
        return f"the command line: {quoted(name)} belongs to no flag. Put texts with spaces into quotes."
    return f"the command line: there is no flag {quoted(name)}.{did_you_mean(name[2:], kinds, prefix='--')}"
