"""An episode that an environment server plays: its request, and its answer, read strictly."""
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxrl_moe.outside import Fields, OutsideError, kind
from jaxrl_moe.protocols import AgentEpisode
from jaxrl_moe.types import EnvError, Status, Step

if TYPE_CHECKING:
    from jaxrl_moe.envs.remote.remote_rollouts import RemoteRollouts

MOST_NUMBERS = 64   # of an episode's info, and of its notes
NEAR = 1e-4         # by how much the turns' rewards may differ from that of the whole, as they were rounded


class RolloutsEpisode(AgentEpisode):
    """An episode, asked for once: what a server did before it broke off is not known.

    Args:
      task: whose it is.
      url: of the server.
      number: of the episode.
    """

    def __init__(self, task: "RemoteRollouts", url: str, number: int):
        self._task = task
        self._url = url
        self._number = number

    def play(self, base_url: str) -> Step | tuple[Step, ...]:
        """Has the server play it.

        Raises:
          EnvError: the server or the endpoint failed, or cannot be understood.
          UserError: the server does not let the run in.
        """
        task = self._task
        server = task.server()
        try:
            card = server.card(base_url)
            sampling = card.object("sampling", None)
            turns = sampling.integer("max_calls", task.max_round, least=1) if sampling else task.max_round
            body = {"env": task.env, "model": task.model or card.string("id"), "base_url": base_url,
                    "ids": [self._number], "max_round": min(task.max_round, turns)}
            with task.room:
                answer = server.rollouts(self._url, body)
            return self._told(Fields(answer, f"The answer of {self._url}/rollouts"))
        except OutsideError as error:
            raise EnvError(Status.MALFORMED, str(error)) from error

    def close(self) -> None:
        """There is nothing to free: an episode that is at work ends by itself, or with the task."""

    def _told(self, answer: Fields) -> Step | tuple[Step, ...]:
        if answer.string("task_name", self._task.env) != self._task.env:
            raise OutsideError(f"{answer.where} is of the task {answer.string('task_name')!r}, and "
                               f"{self._task.env!r} was asked for.")
        detail = _only(answer, "details")
        if detail.integer("id", most=2**53) != self._number:
            raise OutsideError(f"{detail.where} is of the id {detail.integer('id', most=2**53)}, and "
                               f"{self._number} was asked for.")
        if "error" in detail:
            raise EnvError(_status(detail.string("status", "")), f"{detail.where} failed: "
                           f"{detail.string('error')}")
        whole = _whole(detail)
        return _of_calls(detail, whole) if self._task.by_calls else whole


def _only(answer: Fields, key: str) -> Fields:
    """The only object of a list."""
    listed = answer.values.get(key)
    if not isinstance(listed, list) or len(listed) != 1:
        what = f"{len(listed)} items" if isinstance(listed, list) else kind(listed)
        raise OutsideError(f"{answer.where}: {key} holds {what}, and one episode was asked for.")
    return Fields(listed[0], f"{answer.where}: the episode")


def _status(said: str) -> Status:
    """The failure that a server names; that of a step where it names none of ours."""
    failures = {str(status): status for status in Status if not status.trusted}
    return failures.get(said, Status.STEP_FAILED)


def _whole(detail: Fields) -> Step:
    """The episode in a step."""
    told = detail.object("info", None)
    info = {name: told.number(name) for name in list(told.values)[:MOST_NUMBERS]} if told else {}
    success = detail.boolean("success", None)
    if success is not None:
        info.setdefault("correct", float(success))
    notes = detail.object("notes", None)
    texts = {name: notes.string(name) for name in list(notes.values)[:MOST_NUMBERS]} if notes else {}
    return Step(detail.number("reward"), True, info, notes=texts,
                truncated=detail.boolean("truncated", False))


def _of_calls(detail: Fields, whole: Step) -> tuple[Step, ...]:
    """A step for each turn of the policy, as the conversation tells their rewards."""
    listed = detail.values.get("experiences")
    if not isinstance(listed, list):
        why = detail.string("left_out", "set by_calls=false, which takes the reward of the whole")
        raise OutsideError(f"{detail.where} has no conversation (experiences): {why}.")
    turns = _turns(listed, detail.where)
    total = math.fsum(turn.number("reward") for turn in turns)
    if not turns or abs(total - whole.reward) > NEAR * max(1.0, abs(whole.reward)):
        raise OutsideError(f"{detail.where}: the rewards of its {len(turns)} turns sum to {total:g}, and "
                           f"reward is {whole.reward:g}: set by_calls=false, which takes the latter.")
    achieved = [tuple(turn.strings("achieved")) if "achieved" in turn else None for turn in turns]
    before = [Step(turn.number("reward"), False, achieved=names) for turn, names in zip(turns, achieved)]
    last = Step(before[-1].reward, True, whole.info, achieved=achieved[-1], notes=whole.notes,
                truncated=whole.truncated)
    return (*before[:-1], last)


def _turns(listed: Sequence[Mapping[str, Any]], where: str) -> list[Fields]:
    """The messages of a conversation that the policy has drawn: the assistant's that have a reward."""
    messages = [Fields(each, f"{where}: message {number}") for number, each in enumerate(listed, 1)]
    return [each for each in messages if each.string("role") == "assistant" and "reward" in each]
