"""The episode that a data row names: by `id`, a number, or by AgentGym's `item_id`, as "textcraft_12"."""
import re
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.outside import MOST_INT
from jaxrl_moe.spelling import named, quoted
from jaxrl_moe.types import UserError

_NUMBER = "(0|[1-9][0-9]{0,15})"  # of an item_id


def episode_number(row: Mapping[str, Any], env: str, most: int = MOST_INT) -> int:
    """The number of the episode that a row names.

    Args:
      row: of a data set.
      env: of AgentGym; an item_id begins with it.
      most: the largest number.

    Raises:
      UserError: the row names none, one that is larger, or two.
    """
    read = {"id": _whole, "item_id": lambda value: _numbered(value, env)}
    given = {name: row[name] for name in read if row.get(name) is not None}
    numbers = {read[name](value) for name, value in given.items()}
    if len(numbers) != 1 or not 0 <= (number := numbers.pop()) <= most:
        told = " and ".join(f"{name} = {quoted(value)}" for name, value in given.items()) or "neither"
        raise UserError(f"A row of {env} needs the number of an episode, from 0 to {most}, in `id`, or "
                        f"\"{env}_N\" in `item_id`, but has {told} (columns: {named(row)}).")
    return number


def _whole(value: Any) -> int:
    """The number; -1 for what is none."""
    return value if type(value) is int else -1


def _numbered(value: Any, env: str) -> int:
    """The number of an item_id; -1 for what is none."""
    matched = re.fullmatch(f"{env}_{_NUMBER}", value) if isinstance(value, str) else None
    return int(matched[1]) if matched else -1
