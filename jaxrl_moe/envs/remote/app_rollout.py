"""What a task app is asked by POST /rollout, and what it answers, read strictly."""
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.judges.records import Work, work_of
from jaxrl_moe.outside import REQUIRED, Fields, OutsideError, as_object, kind
from jaxrl_moe.types import EnvError, Status, Step

MOST_OPS = 100_000
MOST_DETAILS = 64  # of an answer, that are logged


@dataclasses.dataclass(frozen=True)
class AppStep:
    """A step of a trajectory.

    Attributes:
      reward: None where the app gives none.
      done, truncated: as the app says.
      achieved: what info.achievements names; None: it has none.
      values: the whole.
    """
    reward: float | None
    done: bool
    truncated: bool
    achieved: tuple[str, ...] | None
    values: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class AppRollout:
    """A rollout as a task app tells it.

    Attributes:
      steps: at least one.
      truncated: whether a limit of the app has ended it.
      info: "event" and "outcome" where the app has scored these, and the numbers of its metrics' details.
      notes: what else the details are, as what a judge answered.
      trace: of the app's own form; None: it gives none.
    """
    steps: tuple[AppStep, ...]
    truncated: bool
    info: Mapping[str, float]
    notes: Mapping[str, str]
    trace: Mapping[str, Any] | None

    @property
    def total(self) -> float:
        """The sum of the steps' rewards. Raises OutsideError where none of them has one."""
        rewards = [step.reward for step in self.steps if step.reward is not None]
        if not rewards:
            raise OutsideError("The task app rewards no step: set reward='outcome' where it scores the "
                               "whole, or give a judge_url.")
        return math.fsum(rewards)

    def of_whole(self, reward: float, info: Mapping[str, float], notes: Mapping[str, str]) -> Step:
        """The episode in a step."""
        return Step(reward, True, info, achieved=self.steps[-1].achieved, notes=notes,
                    truncated=self.truncated)

    def of_calls(self, score: float | None, info: Mapping[str, float],
                 notes: Mapping[str, str]) -> tuple[Step, ...]:
        """A step for each call of the policy: with the rewards of the app's, or where there is a score for
        the whole, with that in the last."""
        rewards = [step.reward or 0.0 for step in self.steps]
        if score is not None:
            rewards = [0.0] * (len(rewards) - 1) + [score]
        before = [Step(reward, False, achieved=step.achieved) for reward, step in zip(rewards, self.steps)]
        return (*before[:-1], self.of_whole(rewards[-1], info, notes))

    def work(self, task: str, group: str, group_size: int) -> Work:
        """What a judge is shown: the trace, if it is of the form that records.work_of reads, or else the
        steps as they are."""
        if self.trace is not None and ("turns" in self.trace or "artifacts" in self.trace):
            shown = work_of(self.trace, "The trace of the task app")
        else:
            turns = [json.dumps(dict(step.values), ensure_ascii=False) for step in self.steps]
            shown = Work(task, tuple(turns))
        return dataclasses.replace(shown, task=shown.task or task, group=group, group_size=group_size)


def request(run_id: str, env: Mapping[str, Any], policy: Mapping[str, Any], *, max_turns: int, seconds: float,
            trace: bool, session: str) -> dict[str, Any]:
    """The body of POST /rollout.

    Args:
      run_id: fresh with each call.
      env: {"env_name", "seed", "config"}.
      policy: {"policy_name", "config"}.
      max_turns: turns of the policy at most.
      seconds: that the policy and the environment may take.
      trace: whether the app shall tell what came of it.
      session: name of the training run; empty: none.
    """
    record = {"trajectories": True, "logprobs": False, "value": False, "return_trace": trace,
              "trace_format": "compact"}
    return {"run_id": run_id, "env": {"env_id": None, **env}, "policy": {"policy_id": None, **policy},
            "ops": ["agent", "env"] * max_turns, "record": record, "on_done": "terminate",
            "safety": {"max_ops": MOST_OPS, "max_time_s": seconds}, "training_session_id": session or None,
            "synth_base_url": None}


def rollout_of(answer: Any, run_id: str, max_turns: int, where: str) -> AppRollout:
    """Reads the answer to POST /rollout.

    Args:
      answer: its JSON.
      run_id: of the request.
      max_turns: after which a rollout that is not done counts as truncated.
      where: to begin messages with.

    Raises:
      EnvError: the app has aborted the rollout.
      OutsideError: it is no answer to that request.
    """
    fields = Fields(answer, where)
    if fields.string("run_id") != run_id:
        raise OutsideError(f"{where} is of the run_id {fields.string('run_id')!r}, and {run_id!r} was asked "
                           "for.")
    if fields.boolean("aborted", False):
        raise EnvError(Status.STEP_FAILED, f"{where} says that the task app has aborted the rollout.")
    trajectories = _objects(fields, "trajectories")
    if len(trajectories) != 1:
        raise OutsideError(f"{where} has {len(trajectories)} trajectories, and a rollout is one.")
    steps = _steps(Fields(trajectories[0], f"{where}: the trajectory"))
    metrics = fields.object("metrics", REQUIRED)
    trace = fields.object("trace", None)
    return AppRollout(steps, _truncated(steps, max_turns, where), _info(metrics), _notes(metrics),
                      None if trace is None else trace.values)


def _steps(trajectory: Fields) -> tuple[AppStep, ...]:
    listed = _objects(trajectory, "steps")
    if not listed:
        raise OutsideError(f"{trajectory.where} has no steps.")
    if trajectory.integer("length", len(listed)) != len(listed):
        raise OutsideError(f"{trajectory.where} has {len(listed)} steps, and says length = "
                           f"{trajectory.integer('length')}.")
    return tuple(_step(Fields(values, f"{trajectory.where}: step {number}"))
                 for number, values in enumerate(listed, 1))


def _step(fields: Fields) -> AppStep:
    return AppStep(fields.number("reward", None), fields.boolean("done", False),
                   fields.boolean("truncated", False), _achieved(fields.object("info", None)), fields.values)


def _achieved(info: Fields | None) -> tuple[str, ...] | None:
    """The achievements that stand after a step: a list of names, or an object that says which are there."""
    if info is None or "achievements" not in info:
        return None
    if isinstance(info.values["achievements"], list):
        return tuple(info.strings("achievements"))
    named = info.object("achievements")
    return tuple(name for name in named.values if named.boolean(name, False))


def _truncated(steps: Sequence[AppStep], max_turns: int, where: str) -> bool:
    """Whether a limit has ended the rollout; raises OutsideError for one that has not ended, or was done
    before its end."""
    early = [number for number, step in enumerate(steps[:-1], 1) if step.done]
    if early:
        raise OutsideError(f"{where}: step {early[0]} of {len(steps)} is done, and on_done = terminate was "
                           "asked for.")
    last = steps[-1]
    if not last.done and not last.truncated and len(steps) < max_turns:
        raise OutsideError(f"{where} ends after {len(steps)} of {max_turns} turns with a step that is "
                           "neither done nor truncated.")
    return last.truncated or not last.done


def _info(metrics: Fields) -> dict[str, float]:
    details = metrics.object("details", None)
    numbers = _numbers(details) if details else {}
    scores = {"event": metrics.number("events_score", None), "outcome": metrics.number("outcome_score", None)}
    return numbers | {name: score for name, score in scores.items() if score is not None}


def _numbers(details: Fields) -> dict[str, float]:
    """The first of the details that are numbers or truths."""
    numbers = {name: value for name, value in details.values.items() if isinstance(value, int | float)}
    fields = Fields({name: float(value) if isinstance(value, bool) else value
                     for name, value in numbers.items()}, details.where)
    return {name: fields.number(name) for name in list(numbers)[:MOST_DETAILS]}


def _notes(metrics: Fields) -> dict[str, str]:
    """The first of the details that are none."""
    details = metrics.object("details", None)
    listed = details.values.items() if details else ()
    texts = {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
             for name, value in listed if value is not None and not isinstance(value, int | float)}
    return dict(list(texts.items())[:MOST_DETAILS])


def _objects(fields: Fields, key: str) -> list[dict[str, Any]]:
    listed = fields.values.get(key)
    if not isinstance(listed, list):
        raise OutsideError(f"{fields.where}: `{key}` holds {kind(listed)}; a list is needed.")
    where = f"{fields.where}: `{key}`, item"
    return [as_object(each, f"{where} {number}") for number, each in enumerate(listed, 1)]
