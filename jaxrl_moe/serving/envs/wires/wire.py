"""What a row of the wire formats says, and what several of them share."""
import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from jaxrl_moe.serving.envs.session import Shown
from jaxrl_moe.serving.envs.sessions import NUMBERS
from jaxrl_moe.serving.envs.tells import Tells
from jaxrl_moe.serving.http.bodies import Strict

LONGEST_ACTION = 2**18  # characters; whole answers of models are shorter
BESIDE = ("info", "achieved", "notes", "truncated")

Number = Annotated[int, Field(ge=0, lt=NUMBERS)]
Command = Annotated[str, Field(max_length=LONGEST_ACTION)]


class IdBody(Strict):
    """A body that names a session, as that of /close."""
    id: Number

    @property
    def session(self) -> int:
        """The session's number."""
        return self.id


class ResetBody(IdBody):
    """Of the environments whose rows are data_idx."""
    data_idx: Number

    def row(self) -> dict[str, Any]:
        """The row of the episode."""
        return {"id": self.data_idx}


class StepBody(IdBody):
    action: Command


@dataclasses.dataclass(frozen=True)
class Wire:
    """How the sessions of an environment look on the wire.

    Attributes:
      reset: (the session's number, what it shows) -> the answer of /reset.
      step: -> that of /step.
      session: what the session's number is called in bodies and queries.
      create_body: of /create, where that begins an episode and shows it as /reset does; None: it takes no
        body, and answers with the number alone.
      created: what /create answers for a number, where it begins nothing.
      reset_body, step_body, close_body: of these calls, with the properties and methods of the ones above.
      tells: what an episode must tell beside its messages: {attribute of the Env: what it is to be}.
      looks: {path of a GET that names a session: what it answers}.
      hello: what GET / answers; empty: a sentence with the environment's name.
      unserved: {path: why} of what AgentGym's servers have and this one has not.
    """
    reset: Callable[[int, Shown], Any]
    step: Callable[[int, Shown], Any]
    session: str = "id"
    create_body: type[Strict] | None = None
    created: Callable[[int], Any] = lambda number: {"id": number}
    reset_body: type[Strict] = ResetBody
    step_body: type[Strict] = StepBody
    close_body: type[Strict] = IdBody
    tells: Tells = dataclasses.field(default_factory=dict)
    looks: Mapping[str, Callable[[Shown], Any]] = dataclasses.field(
        default_factory=lambda: {"/observation": lambda shown: shown.observation})
    hello: str = ""
    unserved: Mapping[str, str] = dataclasses.field(default_factory=dict)


def told(shown: Shown, *fields: str) -> dict[str, Any]:
    """These fields of what a session shows; and what a step has BESIDE them, if any, which AgentGym's servers
    do not tell and its clients do not read."""
    every = shown._asdict() | dict(shown.told)
    beside = {name: every[name] for name in BESIDE if every[name] is not None}
    return {name: every[name] for name in fields} | beside
