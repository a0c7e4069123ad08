"""The task of a run: is it known, does it take its settings, and can it grade every row?"""
import dataclasses
from collections.abc import Iterable, Iterator

from jaxrl_moe.checks.problems import told, unknown
from jaxrl_moe.config import Config
from jaxrl_moe.envs import ENVS, check_rows, make_env
from jaxrl_moe.protocols import Env
from jaxrl_moe.types import Problem, Prompt


def problems(config: Config) -> Iterator[Problem]:
    """Yields what is wrong with the env section."""
    name = config.env.name
    yield from unknown("env.name", name, ENVS)
    if name in ENVS:
        yield from told("env.name", name, lambda: task(config))


def task(config: Config) -> Env:
    """The task of the env section. Raises UserError for an unknown one, or one that refuses its settings."""
    return make_env(**dataclasses.asdict(config.env))


def lowest_reward(config: Config) -> float:
    """The least reward that the task says it gives; 0 where it does not say so, or is refused itself."""
    return 0.0 if list(problems(config)) else getattr(task(config), "lowest_reward", 0.0)


def ungraded(config: Config, field: str, path: str, prompts: Iterable[Prompt]) -> Iterator[Problem]:
    """Yields the first row that the task refuses; nothing without a task, or where that is refused itself."""
    if config.env.name and not list(problems(config)):
        yield from told(field, path, lambda: check_rows(task(config), prompts))
