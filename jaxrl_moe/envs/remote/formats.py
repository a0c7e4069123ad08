"""What each of AgentGym's environments is sent and answers with: a row each."""
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxrl_moe.envs.remote import readings
from jaxrl_moe.envs.remote.readings import Told
from jaxrl_moe.envs.text.alfworld.episode import spelt
from jaxrl_moe.envs.text.answers import last_command, only_command
from jaxrl_moe.outside import Fields, OutsideError, kind

MOST_ID = 2**53 - 1


def _as_it_is(command: str, actions: Sequence[str]) -> str:
    return command


@dataclasses.dataclass(frozen=True)
class Format:
    """An environment of AgentGym.

    Attributes:
      rounds: turns of an episode, unless the task says otherwise.
      deterministic: whether the same row and actions give the same steps.
      begun: reads the answer of /reset; the last argument says whose it is.
      stepped: reads the answer of /step, given the score before it.
      session: what the session's number is called.
      row: what the row's number is called in /reset.
      beside: what /reset takes beside these.
      columns: of a row that go with it, if it has them.
      whole_answer: whether /create answers with the number alone.
      command: what is sent of a policy's answer in words.
      spelt: a command as the server spells it, given the actions that it offers.
    """
    rounds: int
    deterministic: bool
    begun: Callable[[Any, str], Told]
    stepped: Callable[[Any, float, str], Told]
    session: str = "id"
    row: str = "data_idx"
    beside: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] = ()
    whole_answer: bool = False
    command: Callable[[str], str] = last_command
    spelt: Callable[[str, Sequence[str]], str] = _as_it_is

    def named(self, row: Mapping[str, Any], number: int) -> dict[str, Any]:
        """What /reset is sent for the row of a number, beside the session."""
        columns = {name: row[name] for name in self.columns if row.get(name) is not None}
        return {self.row: number, **columns, **self.beside}

    def session_of(self, answer: Any, where: str) -> int:
        """The session's number in the answer of /create."""
        if not self.whole_answer:
            return Fields(answer, where).integer(self.session, most=MOST_ID)
        if type(answer) is not int or not 0 <= answer <= MOST_ID:
            raise OutsideError(f"{where} is {kind(answer)}; the number of a session is needed.")
        return answer


FORMATS = {
    "textcraft": Format(20, True, readings.observed, readings.rewarded, columns=("recipes",),
                        command=only_command),
    "babyai": Format(20, True, readings.observed, readings.stepped_babyai, command=only_command),
    "alfworld": Format(30, False, readings.begun_alfworld, readings.stepped_alfworld, row="game",
                       beside={"world_type": "Text"}, spelt=spelt),
    "sciworld": Format(30, False, readings.begun_sciworld, readings.stepped_sciworld),
    "webshop": Format(10, False, readings.begun_webshop, readings.stepped_webshop, session="env_idx",
                      row="session_id", whole_answer=True)}
