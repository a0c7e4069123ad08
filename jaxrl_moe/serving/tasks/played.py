"""What was played, and the answer that it makes."""
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxrl_moe.judges.records import Verdict, Work, verdict_plain
from jaxrl_moe.serving.tasks.bodies import (
    RolloutMetrics,
    RolloutRequest,
    RolloutResponse,
    RolloutStep,
    Trajectory,
)
from jaxrl_moe.serving.tasks.policy import Written
from jaxrl_moe.serving.tasks.task import AppTask, Look

SAFETY = ("max_ops", "max_time_s")
WHOLE = ("done", "max_turns")  # ends that are the episode's own


class TurnPlayed(NamedTuple):
    """What the policy was shown, what it wrote, what came of it."""
    shown: str
    written: Written
    look: Look


@dataclasses.dataclass
class Played:
    """An episode.

    Attributes:
      brief: what was asked for.
      messages: the conversation, with what the policy would be shown next.
      turns: in order; the last one alone has what came of it as pictures and the like.
      ended: why: done | max_turns | ops | refused (the policy's server took no further call, as where the
        conversation is too long for it) | max_ops | max_time_s; empty: it has not.
      verdict: of the judge; None: there was none.
    """
    brief: str
    messages: list[Mapping[str, Any]]
    turns: list[TurnPlayed] = dataclasses.field(default_factory=list)
    ended: str = ""
    verdict: Verdict | None = None

    def add(self, turn: TurnPlayed) -> None:
        """A further turn. What is shown of those before goes, as many pictures would fill the memory."""
        if self.turns:
            before = self.turns[-1]
            self.turns[-1] = before._replace(look=dataclasses.replace(before.look, parts=()))
        self.turns.append(turn)

    @property
    def aborted(self) -> bool:
        """Whether a limit for safety came before the end, so that nothing is known of the outcome."""
        return self.ended in SAFETY

    @property
    def handed_in(self) -> tuple[str, ...]:
        """Of each turn, or all of what was said where nothing was handed in."""
        return tuple(turn.look.written or turn.written.text for turn in self.turns)

    @property
    def rewards(self) -> list[float]:
        """Of each turn: the judge's, where it gave any, else the share of rules that are kept."""
        return list(self.verdict.turn_rewards) if self._judged_turns else [turn.look.score
                                                                           for turn in self.turns]

    @property
    def outcome(self) -> float | None:
        """The judge's reward, or without a judge the share of rules that are kept in the end; 0 where nothing
        was handed in that can be judged; None: see `aborted`."""
        if self.aborted:
            return None
        if self.verdict is not None:
            return self.verdict.reward
        return self.turns[-1].look.score if self.turns[-1].look.parts else 0.0

    @property
    def _judged_turns(self) -> bool:
        return self.verdict is not None and bool(self.verdict.turn_rewards)

    def details(self) -> dict[str, Any]:
        """Who scored what, and the judge's answer as it came."""
        by = "rules" if self.verdict is None else f"judge {self.verdict.judge}"
        if self.aborted:
            by = f"nobody: {self.ended} came first"
        elif not self.turns[-1].look.parts:
            by = "rules: nothing was handed in that can be judged"
        return {"ended": self.ended, "events_by": "judge" if self._judged_turns else "rules",
                "outcome_by": by, "judge": None if self.verdict is None else verdict_plain(self.verdict)}


def response(request: RolloutRequest, task: AppTask, played: Played) -> RolloutResponse:
    """The answer to a request, once all is played and judged."""
    rewards = played.rewards
    total = math.fsum(rewards) if rewards else None
    metrics = RolloutMetrics(
        episode_returns=[] if total is None else [total], mean_return=total, num_steps=len(rewards),
        num_episodes=1, outcome_score=played.outcome,
        events_score=None if total is None else total / len(rewards), details=played.details())
    trajectory = Trajectory(
        env_id=request.env.env_id or task.name,
        policy_id=request.policy.policy_id or request.policy.policy_name or "", steps=_steps(task, played),
        final={"observation": {"text": played.messages[-1]["content"]}, "reward": played.outcome,
               "done": played.ended in WHOLE}, length=len(rewards))
    record = request.record
    return RolloutResponse(
        run_id=request.run_id, trajectories=[trajectory] if record.trajectories else [], branches={},
        metrics=metrics, aborted=played.aborted, ops_executed=2 * len(rewards),
        trace=_trace(played, record.trace_format == "full") if record.return_trace else None)


def _steps(task: AppTask, played: Played) -> list[RolloutStep]:
    steps = []
    rewards = played.rewards
    for number, turn in enumerate(played.turns, 1):
        last = number == len(rewards)
        whole = played.ended in WHOLE
        steps.append(RolloutStep(
            obs={"text": turn.shown}, tool_calls=_calls(task, turn.look), reward=rewards[number - 1],
            done=last and whole, truncated=last and not whole, info=_info(turn)))
    return steps


def _calls(task: AppTask, look: Look) -> list[dict[str, Any]]:
    name, argument, _ = task.tool
    return [{"tool": name, "args": {argument: look.written}}] if look.written else []


def _info(turn: TurnPlayed) -> dict[str, Any]:
    look = turn.look
    kept = [name for name, passed in look.checks.items() if passed]
    return {"achievements": kept, "achievements_map": dict(look.checks), "findings": list(look.findings),
            "rules_score": look.score, "completion": turn.written.text,
            "finish_reason": turn.written.finish_reason}


def _trace(played: Played, full: bool) -> dict[str, Any]:
    """What a judge is sent, and the conversation if all is asked for."""
    parts = played.turns[-1].look.parts if played.turns else ()
    plain = Work(played.brief, played.handed_in, parts).plain()
    return plain | {"messages": list(played.messages)} if full else plain
