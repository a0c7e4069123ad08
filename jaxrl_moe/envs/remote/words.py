"""What a policy is told of each of AgentGym's environments, and the functions by which it may give commands:
those of our own games of the same names, which take the same commands."""
import importlib
from collections.abc import Sequence
from typing import NamedTuple

from jaxrl_moe.envs.text.functions import GameFunction


class Words(NamedTuple):
    """Of an environment.

    Attributes:
      instructions: what a policy is told before an episode; where it calls functions, `calling`.
      functions: a command each.
    """
    instructions: str
    calling: str
    functions: Sequence[GameFunction]


def words(env: str) -> Words:
    """Those of an environment of formats.FORMATS; its game is loaded, and needs nothing of its own for it."""
    module = importlib.import_module(f"jaxrl_moe.envs.text.{env}.instructions")
    return Words(module.INSTRUCTIONS, module.CALLING, module.FUNCTIONS)
