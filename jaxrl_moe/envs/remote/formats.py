"""What each of AgentGym's environments is sent and answers with: a row each."""
import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxrl_moe.envs.text.answers import last_command, only_command
from jaxrl_moe.outside import Fields, OutsideError, kind

MOST_ID = 2**53 - 1


class Told(NamedTuple):
    """What an answer shows.

    Attributes:
      observation: for the policy.
      reward: of the last action.
      done: whether the episode has ended.
      score: the total by now, of environments that tell it in place of rewards.
      info, achieved, notes, truncated: as in Step, of servers that tell them, as ours do.
    """
    observation: str
    reward: float = 0.0
    done: bool = False
    score: float = 0.0
    info: Mapping[str, float] | None = None
    achieved: tuple[str, ...] | None = None
    notes: Mapping[str, str] = MappingProxyType({})
    truncated: bool = False


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
      command: what is sent of a policy's answer.
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


def _observed(answer: Any, where: str) -> Told:
    return Told(Fields(answer, where).string("observation"))


def _rewarded(answer: Any, score: float, where: str) -> Told:
    fields = Fields(answer, where)
    return Told(fields.string("observation"), fields.number("reward", least=0), fields.boolean("done"),
                info=_numbers(fields.object("info", None)),
                achieved=None if "achieved" not in fields else tuple(fields.strings("achieved")),
                notes=_texts(fields.object("notes", None)), truncated=fields.boolean("truncated", False))


def _texts(fields: Fields | None) -> Mapping[str, str]:
    return {} if fields is None else {name: fields.string(name) for name in fields.values}


def _numbers(fields: Fields | None) -> Mapping[str, float] | None:
    return None if fields is None else {name: fields.number(name) for name in fields.values}


def _with_actions(fields: Fields) -> str:
    actions = ",".join(fields.strings("available_actions"))
    return f"{fields.string('observation')}\nAVAILABLE ACTIONS: {actions}"


def _begun_alfworld(answer: Any, where: str) -> Told:
    return Told(_with_actions(Fields(answer, where)))


def _stepped_alfworld(answer: Any, score: float, where: str) -> Told:
    fields = Fields(answer, where)
    return Told(_with_actions(fields), fields.number("reward", least=0), fields.boolean("done"))


def _begun_sciworld(answer: Any, where: str) -> Told:
    fields = Fields(answer, where)
    fields.number("score", least=-100, most=100)  # of some rooms above 0; rewards sum to the last score
    return Told(f"{fields.string('task_description')}\n{fields.string('observation')}")


def _stepped_sciworld(answer: Any, score: float, where: str) -> Told:
    """Rewards are what the score gains, what it began with included; a wrong focus, with a score of -100,
    loses all of it."""
    fields = Fields(answer, where)
    points = fields.number("score", least=-100, most=100)
    share = _share(points)
    return Told(fields.string("observation"), share - score, fields.boolean("done"), share,
                {"correct": float(points == 100), "score": points})


def _share(points: float) -> float:
    """A score of 0 to 100 as one of 0 to 1."""
    return max(points, 0.0) / 100


def _begun_webshop(answer: Any, where: str) -> Told:
    if not isinstance(answer, list) or len(answer) != 2 or not isinstance(answer[0], str):
        raise OutsideError(f"{where} is {kind(answer)}; a list of a text and null is needed.")
    return Told(answer[0])


def _stepped_webshop(answer: Any, score: float, where: str) -> Told:
    fields = Fields(answer, where)
    reward = fields.number("reward", least=0)
    done = fields.boolean("done")
    return Told(fields.string("state"), reward, done, info={"correct": float(done and reward == 1)})


FORMATS = {
    "textcraft": Format(20, True, _observed, _rewarded, columns=("recipes",), command=only_command),
    "babyai": Format(20, True, _observed, _rewarded, command=only_command),
    "alfworld": Format(30, False, _begun_alfworld, _stepped_alfworld, row="game",
                       beside={"world_type": "Text"}),
    "sciworld": Format(30, False, _begun_sciworld, _stepped_sciworld),
    "webshop": Format(10, False, _begun_webshop, _stepped_webshop, session="env_idx", row="session_id",
                      whole_answer=True)}
