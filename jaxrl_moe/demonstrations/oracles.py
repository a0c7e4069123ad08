"""Who plays which environment well, by the environment's name in env.name."""
import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxrl_moe.envs.registry import task_name
from jaxrl_moe.envs.text.functions import GameFunction
from jaxrl_moe.protocols import Env, Task
from jaxrl_moe.spelling import did_you_mean
from jaxrl_moe.types import UserError

Rows = Iterator[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Where its parts stand, each as "module:name" below jaxrl_moe.envs.text; nothing is imported before it
    is asked for.

    Attributes:
      how: who plays, in words.
      commands_at: of commands(task, env, row), which yields (command, thought) of each turn of an episode
        that has begun, each after the one before was taken.
      episodes_at: of episodes(task, seed, split), which yields the rows of a split, each episode once, in an
        order of the seed.
      functions_at: of the functions by which commands are called; a task may offer some of them.
    """
    how: str
    commands_at: str
    episodes_at: str
    functions_at: str

    @functools.cached_property
    def commands(self) -> Callable[[Task, Env, Mapping[str, Any]], Iterator[tuple[str, str]]]:
        return _at(self.commands_at)

    @functools.cached_property
    def episodes(self) -> Callable[[Task, int, str], Rows]:
        return _at(self.episodes_at)

    @functools.cached_property
    def functions(self) -> Sequence[GameFunction]:
        return _at(self.functions_at)


def _at(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"jaxrl_moe.envs.text.{module}"), name)


ORACLES: Mapping[str, Oracle] = {
    "textcraft": Oracle("a planner that knows the recipes", "textcraft.oracle:commands",
                        "textcraft.rows:episodes", "textcraft.instructions:FUNCTIONS"),
    "babyai": Oracle("a planner that sees what the policy sees, and minigrid's bot where missions are beyond "
                     "it", "babyai.oracles:commands", "babyai.rows:episodes",
                     "babyai.instructions:FUNCTIONS"),
    "sciworld": Oracle("the game itself, which makes a path to the end of each of its variations",
                       "sciworld.players:commands", "sciworld.rows:episodes",
                       "sciworld.instructions:ALL_FUNCTIONS"),
    "alfworld": Oracle("an expert that looks for what it needs, by what the policy sees",
                       "alfworld.oracle:advice", "alfworld.rows:episodes", "alfworld.instructions:FUNCTIONS"),
    "webshop": Oracle("a buyer who knows every page of the shop", "webshop.rows:commands",
                      "webshop.rows:episodes", "webshop.instructions:FUNCTIONS")}


def oracle_of(env: str) -> Oracle:
    """The oracle of an environment, given with its settings as env.name has it.

    Raises:
      UserError: there is none.
    """
    name = task_name(env)
    if name not in ORACLES:
        raise UserError(f"--env = {env!r}: nobody plays {name or 'it'} well here."
                        f"{did_you_mean(name, ORACLES)} There are oracles of {', '.join(ORACLES)}.")
    return ORACLES[name]
