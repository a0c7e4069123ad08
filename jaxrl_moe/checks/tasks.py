"""The task of a run: is it known, does it take its settings, and can it open an episode of every row?"""
import contextlib
from collections.abc import Iterable, Iterator

from jaxrl_moe.checks.problems import told
from jaxrl_moe.config import Config
from jaxrl_moe.envs import check_rows, make_task
from jaxrl_moe.types import Problem, Prompt


def problems(config: Config) -> Iterator[Problem]:
    """Yields what is wrong with the env section."""
    yield from told("env.name", config.env.name, lambda: make_task(config.env.name).close())


def lowest_reward(config: Config) -> float:
    """The least reward that the task says it gives; 0 where it does not say so, or is refused itself."""
    if list(problems(config)):
        return 0.0
    with contextlib.closing(make_task(config.env.name)) as task:
        return task.lowest_reward or 0.0


def ungraded(config: Config, field: str, path: str, prompts: Iterable[Prompt]) -> Iterator[Problem]:
    """Yields the first row that the task refuses; nothing without a task, or where that is refused itself."""
    if not config.env.name or list(problems(config)):
        return
    with contextlib.closing(make_task(config.env.name)) as task:
        yield from told(field, path, lambda: check_rows(task, prompts))
