"""Who knows how a task is done: the game itself, which makes a path of commands to the end of each of its
variations."""
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.envs.text.sciworld.task import SciWorld


def gold_actions(task: SciWorld, row: Mapping[str, Any]) -> list[str]:
    """The commands that do a row's task, one a turn, made in one of the task's Java processes.

    They end at a score of 100, though the longest take 200 turns and more; making them takes about as long as
    to play them. Several threads may ask at once.

    Raises:
      UserError: the row names nothing that the task plays.
      EnvError: the Java process died or does not answer.
    """
    return task.game(row).gold()
