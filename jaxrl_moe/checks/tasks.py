"""The task of a run: is it known, does it take its settings, and can it open an episode of every row?"""
from collections.abc import Iterable, Iterator

from jaxrl_moe.checks.problems import told
from jaxrl_moe.checks.start import Start
from jaxrl_moe.envs import check_rows
from jaxrl_moe.types import Problem, Prompt


def problems(start: Start) -> Iterator[Problem]:
    """Yields what is wrong with the env section."""
    yield from told("env.name", start.config.env.name, lambda: start.task)


def lowest_reward(start: Start) -> float:
    """The least reward that the task says it gives; 0 where it does not say so, or is refused itself."""
    return 0.0 if list(problems(start)) else start.task.lowest_reward or 0.0


def ungraded(start: Start, field: str, path: str, prompts: Iterable[Prompt]) -> Iterator[Problem]:
    """Yields the first row that the task refuses; nothing without a task, or where that is refused itself."""
    if start.config.env.name and not list(problems(start)):
        yield from told(field, path, lambda: check_rows(start.task, prompts))
