"""Regular expressions that somebody else wrote: refused where they are none, and matched in bounded time."""
import time

import regex

from jaxrl_moe.types import UserError

LONGEST = 1000  # characters
SECONDS = 5.0   # of matching, for all names that one Expressions is asked for


class ExpressionError(UserError):
    """What is no regular expression, or one that takes for ever."""


class Expressions:
    """Matches names against expressions, whose time together is bounded: one such as (a+)+$ can take longer
    than anybody lives.

    Args:
      where: whose they are, to begin messages with, such as "lora.targets".
    """

    def __init__(self, where: str):
        self.where = where
        self._left = SECONDS
        self._compiled: dict[str, regex.Pattern] = {}

    def compile(self, expression: str) -> regex.Pattern:
        """Raises ExpressionError: it is no regular expression, or a very long one."""
        if expression not in self._compiled:
            self._compiled[expression] = self._compile(expression)
        return self._compiled[expression]

    def fullmatch(self, expression: str, name: str) -> regex.Match | None:
        """Matches the whole name, as re.fullmatch does.

        Raises:
          ExpressionError: as compile, or it does not come to an end.
        """
        compiled = self.compile(expression)
        begun = time.monotonic()
        try:
            return compiled.fullmatch(name, timeout=max(self._left, 1e-3))
        except TimeoutError as error:
            raise ExpressionError(
                f"{self.where}: the regular expression {expression[:80]!r} takes more than {SECONDS:g} s to "
                f"match {name[:80]!r}; it tries the same characters in ever new ways. Write one without a "
                "repeated group that itself repeats, or name the layers.") from error
        finally:
            self._left -= time.monotonic() - begun

    def _compile(self, expression: str) -> regex.Pattern:
        if len(expression) > LONGEST:
            raise ExpressionError(f"{self.where}: the regular expression {expression[:40]!r}... has "
                                  f"{len(expression):,} characters; at most {LONGEST} are read.")
        try:
            return regex.compile(expression)
        except (regex.error, RecursionError, OverflowError, ValueError) as error:
            raise ExpressionError(f"{self.where}: {expression[:80]!r} is no regular expression "
                                  f"({str(error) or type(error).__name__}).") from error
