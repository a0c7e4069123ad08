"""Episodes that agents of any language play: each asks for one over HTTP, calls the policy as OpenAI's
clients do, and says what it was worth."""
import dataclasses
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.protocols import AgentEpisode, Task
from jaxrl_moe.types import Step, UserError


@dataclasses.dataclass
class AgentTask(Task):
    """A row is whatever the agents need: POST /sessions of the run's endpoint gives them the next one, with
    the base_url of its session, and POST /sessions/<id>/finish takes the reward.

    Attributes:
      max_turns: most calls of the policy in an episode.

    Raises:
      UserError: a setting is out of range.
    """
    max_turns: int = 32
    concurrent: ClassVar[bool] = True
    by_agents: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.max_turns < 2:
            raise UserError(f"max_turns = {self.max_turns} is out of range: it must be at least 2. An agent "
                            "need not make as many calls.")

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that JSON cannot hold, as it is sent to the agent."""
        try:
            json.dumps(dict(row), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UserError(f"The row cannot be sent to an agent as JSON: {error}. Leave out columns of "
                            "other types than texts, finite numbers, booleans, lists and objects.") from error

    def open(self, row: Mapping[str, Any], seed: int) -> "LeftEpisode":
        """An episode that is left to the next agent."""
        return LeftEpisode()

    def close(self) -> None:
        """There is nothing to free."""


class LeftEpisode(AgentEpisode):
    """It is left to the next agent that asks."""

    def play(self, base_url: str) -> Step | None:
        """None, at once."""
        return None

    def close(self) -> None:
        """There is nothing to free."""
