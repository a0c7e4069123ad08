"""What a judge is shown, and what it says, as records and as JSON of POST /api/judge/v1/score."""
import base64
import binascii
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.judges.rubric import Rubric
from jaxrl_moe.outside import REQUIRED, Fields, OutsideError, as_object, kind
from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import UserError

KINDS = {"text": "as it was written", "html": "a page", "png": "a picture, in base64"}


@dataclasses.dataclass(frozen=True)
class Part:
    """A piece of what the policy made; `kind` is a row of KINDS."""
    kind: str
    content: str

    @property
    def picture(self) -> bytes:
        """The bytes of a picture."""
        return base64.b64decode(self.content)


@dataclasses.dataclass(frozen=True)
class Work:
    """What is judged at once: the answer to one task, which may have several turns.

    Attributes:
      task: what was asked for, as a judge reads it.
      turns: what the policy wrote in each, for a judge of single turns.
      parts: what came of them in the end; empty: the last turn's text.
      group: the works that answer the same task for the same update share it, for judges that compare;
        empty: it is compared with none.
      group_size: how many they are.
      copy: which one of the group's works that are equal to it, from 0; the same one handed in again has the
        same number.
    """
    task: str
    turns: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    group: str = ""
    group_size: int = 1
    copy: int = 0

    @property
    def shown(self) -> tuple[Part, ...]:
        """What a judge looks at."""
        return self.parts or (Part("text", self.turns[-1] if self.turns else ""),)

    def digest(self) -> str:
        """A hash of what a judge sees, and of no more: the same work is judged once."""
        parts = [dataclasses.astuple(each) for each in self.parts]
        seen = {"task": self.task, "turns": self.turns, "parts": parts}
        return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()

    def plain(self) -> dict[str, Any]:
        """As work_of reads it."""
        return {"task": self.task, "turns": [{"text": text} for text in self.turns],
                "artifacts": [dataclasses.asdict(each) for each in self.parts],
                "group": self.group, "group_size": self.group_size, "copy": self.copy}


MODES = {"rubric": "each work by itself, criterion by criterion",
         "pairwise": "all pairs of a group's works, both ways; the reward is the share of wins",
         "ranking": "all of a group's works at once; the reward follows from the rank"}


@dataclasses.dataclass(frozen=True)
class Ask:
    """How works are to be judged.

    Attributes:
      rubric: what is looked at.
      mode: a row of MODES.
      turns: whether each turn gets a reward of its own too.
      run: the training run that waits for it; judges are not shown it.
    """
    rubric: Rubric
    mode: str = "rubric"
    turns: bool = False
    run: str = ""


def check_ask(work: Work, ask: Ask) -> None:
    """Raises UserError where a work cannot be judged so, by whomever."""
    ask.rubric.check_weights()
    if ask.mode not in MODES:
        raise UserError(f"There is no mode {quoted(ask.mode)}.{did_you_mean(ask.mode, MODES)} There are "
                        f"{', '.join(MODES)}.")
    if ask.turns and ask.mode != "rubric":
        raise UserError(f"Turns get rewards of their own under the mode rubric alone, not under {ask.mode}.")
    if ask.turns and not work.turns:
        raise UserError("Each turn is to get a reward, and the work has no turns.")
    if ask.mode != "rubric" and (not work.group or work.group_size < 2):
        raise UserError(f"The mode {ask.mode} compares the works of a group: name it as `group`, and the "
                        "number of its works, of at least 2, as `group_size`.")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a judge says of a work.

    Attributes:
      reward: the rubric's sum, or a comparing judge's share of wins, from 0 to 1.
      scores: of each criterion; empty where works were compared.
      turn_rewards: of each turn, where the judge was asked for them; else empty.
      judge: who it was, such as "gpt-oss-120b" or "human".
      raw: what it answered, word for word.
    """
    reward: float
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    turn_rewards: tuple[float, ...] = ()
    judge: str = ""
    raw: str = ""


def work_of(values: Any, where: str) -> Work:
    """Reads the `trace` of a request: {"task", "turns": [{"text"}], "artifacts": [{"kind", "content"}],
    "group", "group_size", "copy"}. What else it has belongs to its sender. An object of another form is
    judged as the JSON that it is.

    Raises:
      OutsideError: it is no object, or one of these fields does not fit.
    """
    trace = Fields(values, where)
    if "turns" not in trace and "artifacts" not in trace:
        return Work(trace.string("task", ""), (json.dumps(trace.values, ensure_ascii=False),))
    turns = tuple(Fields(each, f"{where}: turn {number}").string("text", REQUIRED)
                  for number, each in enumerate(_list(trace, "turns")))
    parts = tuple(_part(Fields(each, f"{where}: artifact {number}"))
                  for number, each in enumerate(_list(trace, "artifacts")))
    if not turns and not parts:
        raise OutsideError(f"{where} has neither turns nor artifacts: there is nothing to judge.")
    return Work(trace.string("task", ""), turns, parts, trace.string("group", ""),
                trace.integer("group_size", 1, least=1, most=1024),
                trace.integer("copy", 0, most=1023))


def verdict_plain(verdict: Verdict) -> dict[str, Any]:
    """The answer of a judge that is done."""
    turns = [{"event_index": index, "reward": reward} for index, reward in enumerate(verdict.turn_rewards)]
    return {"status": "ok", "event_rewards": turns,
            "outcome_reward": {"total": verdict.reward, "criteria": dict(verdict.scores)},
            "details": {"judge": verdict.judge, "raw": verdict.raw}}


def verdict_of(values: Any, where: str) -> Verdict:
    """Reads a judge's answer; rewards are from 0 to 1.

    Raises:
      OutsideError: it is none such.
    """
    fields = Fields(values, where)
    outcome = fields.object("outcome_reward", REQUIRED)
    details = fields.object("details", None) or Fields({}, where)
    criteria = outcome.object("criteria", None) or Fields({}, where)
    scores = {name: criteria.number(name, least=0, most=1) for name in criteria.values}
    turns = tuple(Fields(each, f"{where}: event reward {number}").number("reward", least=0, most=1)
                  for number, each in enumerate(_list(fields, "event_rewards")))
    raw = details.values.get("raw", "")
    return Verdict(outcome.number("total", least=0, most=1), scores, turns, details.string("judge", ""),
                   raw if isinstance(raw, str) else json.dumps(raw))


def _list(fields: Fields, key: str) -> list[Any]:
    listed = fields.values.get(key)
    if listed is not None and not isinstance(listed, list):
        raise OutsideError(f"{fields.where}: `{key}` holds {kind(listed)}; a list is needed.")
    where = f"{fields.where}: `{key}`, item"
    return [as_object(each, f"{where} {number}") for number, each in enumerate(listed or ())]


def _part(fields: Fields) -> Part:
    part = Part(fields.string("kind", REQUIRED, choices=tuple(KINDS)), fields.string("content", REQUIRED))
    if part.kind == "png":
        try:
            base64.b64decode(part.content, validate=True)
        except (ValueError, binascii.Error) as error:
            raise OutsideError(f"{fields.where}: `content` is no base64: {error}.") from error
    return part
