"""Configurations of other systems in place of a recipe: which words of a command line are theirs. What reads
them a script hands in."""
import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from absl import flags
from ml_collections import ConfigDict

from jaxrl_moe.config import ConfigError, known_keys
from jaxrl_moe.types import Problem

_WORD = re.compile(r"--?([\w.]+)(=.*)?$", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Foreign:
    """What a dialect's reader makes of its words.

    Attributes:
      settings: a ConfigDict over base().
      missing: settings that nothing of it tells, by key, and what then speaks against a run.
      said: a line about what became of it.
    """
    settings: ConfigDict
    missing: Mapping[str, Problem]
    said: str

    def refuse_missing(self, given: Iterable[str]) -> None:
        """Raises ConfigError for what is missing and was not given beside it by --config.KEY=VALUE."""
        problems = [problem for key, problem in self.missing.items() if key not in set(given)]
        if problems:
            raise ConfigError(*problems)


@dataclasses.dataclass(frozen=True)
class Dialect:
    """A system's way to write a configuration.

    Attributes:
      name: as the first word of a command line.
      endings: of its files, by which --config tells them; may be empty.
      read: makes settings of its words: the file first where --config named one. Raises UserError.
    """
    name: str
    endings: tuple[str, ...]
    read: Callable[[Sequence[str]], Foreign]


def parted(arguments: Sequence[str],
           dialects: Sequence[Dialect]) -> tuple[list[str], Dialect | None, list[str]]:
    """(our words with the script before them, the dialect if there is one, its words).

    A dialect is named by the first word, or by the ending of the file that --config names. All that is
    neither an option of the script nor a setting of ours is the dialect's, as is what follows a bare "--".
    """
    script, *words = arguments
    named = next((dialect for dialect in dialects if words[:1] == [dialect.name]), None)
    if named is not None:
        words = words[1:]
    path, rest = _config(words)
    dialect = named or next((each for each in dialects if path and _ends(path, each)), None)
    if dialect is None:
        return list(arguments), None, []
    ours, theirs = _shared_out(rest)
    return [script, *ours], dialect, [*([path] if path else []), *theirs]


def _ends(path: str, dialect: Dialect) -> bool:
    return pathlib.PurePath(path).suffix in dialect.endings


def _config(words: Sequence[str]) -> tuple[str, list[str]]:
    """What --config names, and the other words."""
    for i, word in enumerate(words):
        if re.match("--?config=", word):
            return word.split("=", 1)[1], [*words[:i], *words[i + 1:]]
        if re.fullmatch("--?config", word) and i + 1 < len(words):
            return words[i + 1], [*words[:i], *words[i + 2:]]
    return "", list(words)


def _shared_out(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(ours, theirs)."""
    ours: list[str] = []
    theirs: list[str] = []
    following = iter(words)
    for word in following:
        if word == "--":
            return ours, [*theirs, *following]
        match = _WORD.match(word)
        if match is None or not _is_ours(match[1]):
            theirs.append(word)
            continue
        ours.append(word)
        if match[2] is None and not _is_switch(match[1]):
            ours += [value for value in [next(following, None)] if value is not None]
    return ours, theirs


def _is_ours(name: str) -> bool:
    known = name.startswith("config.") or name in flags.FLAGS
    return known or (name.startswith("no") and _is_switch(name))


def _is_switch(name: str) -> bool:
    """Whether an option takes no value."""
    off = name.removeprefix("no")
    if name.startswith("noconfig."):
        return True
    if name.startswith("config."):
        return known_keys().get(name.removeprefix("config.")) is bool
    flag = flags.FLAGS[name] if name in flags.FLAGS else flags.FLAGS[off] if off in flags.FLAGS else None
    return flag is not None and bool(flag.boolean)
