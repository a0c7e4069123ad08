"""How the answers of AgentGym's servers are read, each strictly: what they lack, or have of another kind, is
an OutsideError."""
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxrl_moe.outside import Fields, OutsideError, kind


class Told(NamedTuple):
    """What an answer shows.

    Attributes:
      observation: for the policy.
      reward: of the last action.
      done: whether the episode has ended.
      score: the total by now, of environments that tell it in place of rewards.
      info, achieved, notes, truncated: as in Step, of servers that tell them, as ours do.
      actions: the commands that would do something now, of environments that tell them.
    """
    observation: str
    reward: float = 0.0
    done: bool = False
    score: float = 0.0
    info: Mapping[str, float] | None = None
    achieved: tuple[str, ...] | None = None
    notes: Mapping[str, str] = MappingProxyType({})
    truncated: bool = False
    actions: tuple[str, ...] = ()


def observed(answer: Any, where: str) -> Told:
    """The beginning of an episode that is told by an observation alone."""
    return Told(Fields(answer, where).string("observation"))


def rewarded(answer: Any, score: float, where: str) -> Told:
    """A step that is told by its reward."""
    fields = Fields(answer, where)
    return _beside(Told(fields.string("observation"), fields.number("reward", least=0),
                        fields.boolean("done")), fields)


def stepped_babyai(answer: Any, score: float, where: str) -> Told:
    """BabyAI rewards the action that fulfils the mission, and no other. AgentGym's own server goes on after
    a reward of 0.5 or less, and gives it again for each command that does nothing."""
    told = rewarded(answer, score, where)
    return told._replace(done=told.done or told.reward > 0)


def begun_alfworld(answer: Any, where: str) -> Told:
    """The first observation, and the actions that the game would take."""
    return _with_actions(Told(""), Fields(answer, where))


def stepped_alfworld(answer: Any, score: float, where: str) -> Told:
    """As rewarded, with the actions; after the end there is nothing to choose."""
    told = rewarded(answer, score, where)
    offered = _with_actions(told, Fields(answer, where))
    return told if told.done else offered


def begun_sciworld(answer: Any, where: str) -> Told:
    """The task, then the first observation."""
    fields = Fields(answer, where)
    fields.number("score", least=-100, most=100)  # of some rooms above 0; rewards sum to the last score
    return Told(f"{fields.string('task_description')}\n{fields.string('observation')}")


def stepped_sciworld(answer: Any, score: float, where: str) -> Told:
    """Rewards are what the score gains, what it began with included; a wrong focus, with a score of -100,
    loses all of it."""
    fields = Fields(answer, where)
    points = fields.number("score", least=-100, most=100)
    reached = max(points, 0.0)  # and the difference as a share of 100, as the game in process has it
    reward = (reached - score) / 100
    told = _beside(Told(fields.string("observation"), reward, fields.boolean("done"), reached), fields)
    return told if told.info is not None else told._replace(
        info={"correct": float(points == 100), "score": points})


def begun_webshop(answer: Any, where: str) -> Told:
    """A text and null."""
    if not isinstance(answer, list) or len(answer) != 2 or not isinstance(answer[0], str):
        raise OutsideError(f"{where} is {kind(answer)}; a list of a text and null is needed.")
    return Told(answer[0])


def stepped_webshop(answer: Any, score: float, where: str) -> Told:
    """Correct at the full reward alone."""
    fields = Fields(answer, where)
    reward = fields.number("reward", least=0)
    done = fields.boolean("done")
    told = _beside(Told(fields.string("state"), reward, done), fields)
    return told if told.info is not None else told._replace(info={"correct": float(done and reward == 1)})


def _beside(told: Told, fields: Fields) -> Told:
    """With what servers tell beside AgentGym's fields, as ours do."""
    notes = fields.object("notes", None)
    info = fields.object("info", None)
    return told._replace(
        info=None if info is None else {name: info.number(name) for name in info.values},
        achieved=None if "achieved" not in fields else tuple(fields.strings("achieved")),
        notes={} if notes is None else {name: notes.string(name) for name in notes.values},
        truncated=fields.boolean("truncated", False))


def _with_actions(told: Told, fields: Fields) -> Told:
    """What is told, with the actions, which are shown too."""
    actions = tuple(fields.strings("available_actions"))
    shown = f"{fields.string('observation')}\nAVAILABLE ACTIONS: {','.join(actions)}"
    return told._replace(observation=shown, actions=actions)
