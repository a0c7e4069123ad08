"""What AgentGym's clients send to a server of each of its environments, and read from it: one row each."""
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from jaxrl_moe.serving.envs.session import Shown
from jaxrl_moe.serving.envs.sessions import NUMBERS
from jaxrl_moe.serving.http.bodies import Strict
from jaxrl_moe.serving.openai.neutral import only

LONGEST_ACTION = 2**18  # characters; whole answers of models are shorter
BESIDE = ("info", "achieved", "notes", "truncated")

Number = Annotated[int, Field(ge=0, lt=NUMBERS)]


class CreateBody(Strict):
    """Of textcraft. AgentGym's client always names the folder that its own server reads."""
    commands: str | None = None
    goal: str | None = None
    minecraft_dir: Annotated[str | None, only("agentenv_textcraft/", reason="the server's recipes are those "
                                              "that it was started with")] = None


class ResetBody(Strict):
    """Of an environment; what it has beside the session's number is the row of the episode."""
    id: Number
    data_idx: int = Field(ge=0, lt=NUMBERS)

    def row(self) -> dict[str, Any]:
        beside = self.model_dump(exclude={"id", "data_idx"}, exclude_none=True)
        return {"id": self.data_idx, **beside}


class RecipesBody(ResetBody):
    """Of textcraft. AgentGym's clients do not say of which recipes a goal is; the task agentgym does."""
    recipes: str | None = None


class StepBody(Strict):
    id: Number
    action: str = Field(max_length=LONGEST_ACTION)


class CloseBody(Strict):
    id: Number


@dataclasses.dataclass(frozen=True)
class Wire:
    """How the sessions of an environment look on the wire.

    Attributes:
      begins: whether /create begins an episode and shows it, of the recipes and the goal in its body if
        these are given; else it takes no body.
      reset_body: of /reset.
      reset: what the answer of /reset tells.
      step: what the answers of /step tell.
      unserved: {path: why} of what AgentGym's servers have and this one has not.
    """
    begins: bool
    reset_body: type[ResetBody]
    reset: Sequence[str]
    step: Sequence[str]
    unserved: Mapping[str, str] = dataclasses.field(default_factory=dict)


WIRES = {
    "textcraft": Wire(True, RecipesBody, ("id", "observation", "done", "reward"),
                      ("observation", "reward", "done")),
    "babyai": Wire(False, ResetBody, ("observation", "reward", "score", "done"),
                   ("observation", "reward", "score", "done"),
                   {"/render": "This server sends no pictures: read the observation."})}


def told(fields: Sequence[str], number: int, shown: Shown) -> dict[str, Any]:
    """The answer that tells these fields of a session; and what a step has BESIDE them, if any, which
    AgentGym's servers do not tell and its clients do not read."""
    every = {"id": number, **shown._asdict()}
    beside = {name: every[name] for name in BESIDE if every[name] is not None}
    return {name: every[name] for name in fields} | beside
