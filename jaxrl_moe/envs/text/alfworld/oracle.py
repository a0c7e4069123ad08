"""How the expert plays the game of a row, for data of supervised fine-tuning and for checks."""
from collections.abc import Iterator, Mapping
from typing import Any

from jaxrl_moe.envs.text.alfworld.episode import AlfWorldEpisode
from jaxrl_moe.envs.text.alfworld.expert import Advice, Expert
from jaxrl_moe.envs.text.alfworld.task import AlfWorld
from jaxrl_moe.types import Action, Messages


def advice(task: AlfWorld, env: AlfWorldEpisode, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (command, thought) of each turn of an episode that has begun, each after the one before was
    taken; it ends where the expert has nothing more to try."""
    expert = Expert(env.shown)
    while advised := expert.advice(env.shown, env.available_actions):
        yield advised.command, advised.thought


def turns(task: AlfWorld, row: Mapping[str, Any]) -> Iterator[tuple[Messages, Advice, float]]:
    """Plays a row's game in an episode of the task, which takes commands in words. Yields, turn by turn, what
    was shown, what the expert does, and the reward that this brings. It ends with the game, with the task's
    turns, or where the expert has nothing more to try.

    Raises:
      EnvError: the worker that plays the game fails.
      UserError: the row names no game.
    """
    env = task.open(row, 0)
    try:
        yield from _turns(env, task.max_turns)
    finally:
        env.close()


def commands(task: AlfWorld, row: Mapping[str, Any]) -> list[str] | None:
    """The expert's commands that win a row's game; None where it does not within the task's turns. Raises as
    turns() does."""
    played = list(turns(task, row))
    is_won = bool(played) and played[-1][2] > 0
    return [advice.command for _, advice, _ in played] if is_won else None


def _turns(env: AlfWorldEpisode, most: int) -> Iterator[tuple[Messages, Advice, float]]:
    shown = env.reset()
    expert = Expert(shown[0]["content"])
    for _ in range(most):
        advice = expert.advice(shown[0]["content"], env.available_actions)
        if advice is None:
            return
        step = env.step(Action(f"Action:\n{advice.command}", 0, False))
        yield shown, advice, step.reward
        if step.done:
            return
        shown = step.observation
