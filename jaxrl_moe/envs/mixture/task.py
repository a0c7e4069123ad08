"""Several tasks as one: each row names the one that it is of."""
import contextlib
import math
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.protocols import Env, Task
from jaxrl_moe.spelling import did_you_mean, named, quoted
from jaxrl_moe.types import UserError

COLUMN = "env"  # of a row: the name of its task


class Mixture(Task):
    """Holds tasks, each with its own rows, turns and tools. What is true of all is true of the mixture.

    Args:
      tasks: {name: task}; they are closed with the mixture.
      normalise: each one's rewards are brought to 0..1 by its score_range.

    Raises:
      UserError: there is none; agents elsewhere play one; or the range of one is not known and its rewards
        are to be normalised.
    """

    def __init__(self, tasks: Mapping[str, Task], normalise: bool = True):
        self._tasks = dict(tasks)
        self._normalise = normalise
        _check(self._tasks, normalise)
        parts = self._tasks.values()
        self.envs = tuple(self._tasks)
        self.max_turns = max(task.max_turns for task in parts)
        self.concurrent = all(task.concurrent for task in parts)
        self.deterministic = all(task.deterministic for task in parts)
        self.score_range = (0.0, 1.0) if normalise else _whole_range(self._tasks)
        lowest = [task.lowest_reward for task in parts]
        self.lowest_reward = 0.0 if normalise else None if None in lowest else min(lowest)

    def ready(self) -> None:
        """Asks each; the message begins with the name of the one that is not."""
        for name, task in self._tasks.items():
            try:
                task.ready()
            except UserError as error:
                raise UserError(f"{name}: {error}") from error

    def turns_of(self, row: Mapping[str, Any]) -> int:
        """As many as the row's own task has."""
        return self._of(row).turns_of(row)

    def scaled_from(self, row: Mapping[str, Any]) -> tuple[float, float] | None:
        """The range of the row's own task, unless rewards are taken as they are."""
        return self._of(row).score_range if self._normalise else None

    def tools(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """Those of the row's own task."""
        return self._of(row).tools(row)

    def instructions(self, row: Mapping[str, Any]) -> str:
        """Those of the row's own task."""
        return self._of(row).instructions(row)

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that names no task of the mixture, or that its task refuses."""
        self._of(row).check_row(row, index)

    def open(self, row: Mapping[str, Any], seed: int) -> Env:
        """An episode of the row's own task, with the rewards that this gives: whoever plays it scales them by
        scaled_from."""
        return self._of(row).open(row, seed)

    def close(self) -> None:
        """Closes each, also where one fails at it."""
        with contextlib.ExitStack() as stack:
            for task in self._tasks.values():
                stack.callback(task.close)

    def _of(self, row: Mapping[str, Any]) -> Task:
        name = row.get(COLUMN)
        if isinstance(name, str) and name in self._tasks:
            return self._tasks[name]
        if name is None:
            raise UserError(f"The row does not say which environment it is of (its columns: {named(row)}): "
                            f"name one of {', '.join(self._tasks)} in a column `{COLUMN}`, or give each its "
                            "own file by data.files.")
        near = did_you_mean(name, self._tasks) if isinstance(name, str) else ""
        raise UserError(f"The row has {COLUMN} = {quoted(name)}, and env.name holds no such environment."
                        f"{near} It holds {', '.join(self._tasks)}.")


def _check(tasks: Mapping[str, Task], normalise: bool) -> None:
    if not tasks:
        raise UserError("A mixture needs tasks: give each a name, as in mixed(textcraft='textcraft', "
                        "babyai='babyai(max_turns=3)').")
    for name, task in tasks.items():
        if task.by_agents:
            raise UserError(f"{name} cannot be mixed with others, as agents elsewhere play its episodes: "
                            "leave it out, or train on it alone.")
        if task.envs:
            raise UserError(f"{name} is a mixture itself: name its tasks beside the others.")
        if normalise and task.score_range is None:
            raise UserError(f"{name} does not say the range of its scores (score_range), by which rewards "
                            "are brought to 0..1: let its task say it, or set normalise=false.")
        if normalise and not -math.inf < task.score_range[0] < task.score_range[1] < math.inf:
            raise UserError(f"{name} says that its scores lie from {task.score_range[0]} to "
                            f"{task.score_range[1]}, which is no range: correct its score_range, or set "
                            "normalise=false.")


def _whole_range(tasks: Mapping[str, Task]) -> tuple[float, float] | None:
    ranges = [task.score_range for task in tasks.values()]
    if None in ranges:
        return None
    return min(low for low, _ in ranges), max(high for _, high in ranges)
