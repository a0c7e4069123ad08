"""How a refusal is said: checks yield Problems, and all that speaks against a start is told together."""
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from jaxrl_moe.config import ConfigError
from jaxrl_moe.spelling import did_you_mean
from jaxrl_moe.system_errors import system_error
from jaxrl_moe.types import Problem, UserError


class Told(Problem):
    """A problem that another room of the house has put into words: `why` is all that it said. Where that does
    not name the field, the field stands before it."""

    def __str__(self) -> str:
        return self.why if self.field in self.why else f"{self.field}: {self.why}"


def changed(section: Any, name: str) -> bool:
    """Whether a setting of a section differs from its default."""
    return getattr(section, name) != getattr(type(section)(), name)


def idle(prefix: str, section: Any, names: Iterable[str], because: str, mend: str) -> Iterator[Problem]:
    """Yields those of a section's settings that differ from their defaults, and have no effect.

    Args:
      prefix: the section's name.
      section: its settings.
      names: those that have no effect.
      because: as it goes on from "has no effect", such as ", as mesh.expert = 1".
      mend: what would give it an effect; the sentence goes on with "or leave it out".
    """
    for name in names:
        if changed(section, name):
            field = f"{prefix}.{name}"
            yield Problem(field, getattr(section, name), f"has no effect{because}",
                          f"{mend}, or leave {field} out")


def unknown(field: str, value: str, table: Iterable[str]) -> Iterator[Problem]:
    """Yields the problem of a name that a table does not have."""
    known = list(table)
    if value in known:
        return
    yield Problem(field, value, f"is not known.{did_you_mean(value, known)} Known", ", ".join(known))


def as_problem(field: str, value: Any, error: Exception) -> Problem:
    """What another part of the house, or the operating system, refused in words of its own."""
    mended = system_error(error) if isinstance(error, OSError) else error
    return Told(field, value, str(mended), "")


def told(field: str, value: Any, action: Callable[[], Any]) -> Iterator[Problem]:
    """Does it, and yields what it refuses."""
    try:
        action()
    except (UserError, OSError) as error:
        yield as_problem(field, value, error)


def refuse(problems: Sequence[Problem]) -> None:
    """Raises ConfigError with all of the problems, as its `problems` too; nothing without any."""
    if problems:
        raise ConfigError(*problems)


def packed(problems: Iterable[Problem]) -> list[list[Any]]:
    """The problems as plain values, for other processes."""
    return [[isinstance(problem, Told), problem.field, problem.value, problem.why, problem.mend]
            for problem in problems]


def unpacked(values: Iterable[Sequence[Any]]) -> list[Problem]:
    """The problems again; what was a tuple there is one here."""
    return [(Told if verbatim else Problem)(field, tuple(value) if isinstance(value, list) else value, why,
                                            mend)
            for verbatim, field, value, why, mend in values]
