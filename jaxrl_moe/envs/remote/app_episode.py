"""An episode that a task app plays: its request, its answer, and what a judge says of it."""
import statistics
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxrl_moe.envs.remote.app_rollout import AppRollout, request, rollout_of
from jaxrl_moe.judges.records import Verdict
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.protocols import AgentEpisode
from jaxrl_moe.types import EnvError, Status, Step

if TYPE_CHECKING:
    from jaxrl_moe.envs.remote.task_app import TaskApp


class TaskAppEpisode(AgentEpisode):
    """A rollout of a task app, asked for once: what an app did before it broke off is not known.

    Args:
      task: whose it is.
      row: of the data; its `seed` is the instance.
      group: what the works of its group share, for judges that compare.
    """

    def __init__(self, task: "TaskApp", row: Mapping[str, Any], group: str):
        self._task = task
        self._row = row
        self._group = group

    def play(self, base_url: str) -> Step | tuple[Step, ...]:
        """Has the app play it, and a judge judge it where the run asks one.

        Raises:
          EnvError: the app or the judge failed, or cannot be understood.
          UserError: the app does not let the run in.
        """
        task = self._task
        server = task.server()
        run_id = uuid.uuid4().hex
        policy = {"policy_name": task.policy_name or None, "config": server.policy(base_url, task.model)}
        config = {"max_turns": task.asked_turns}
        env = {"env_name": task.env_name, "seed": self._row["seed"], "config": config}
        seconds = min(task.timeout, server.most_seconds)
        body = request(run_id, env, policy, max_turns=task.asked_turns, seconds=seconds,
                       trace=bool(task.judge_url), session=task.run)
        with task.room(judging=False):
            answer = server.rollout(body)
        try:
            rollout = rollout_of(answer, run_id, task.asked_turns, f"The answer of {server.url}/rollout")
            return self._told(rollout, {"run_id": run_id, **rollout.notes})
        except OutsideError as error:
            raise EnvError(Status.MALFORMED, str(error)) from error

    def close(self) -> None:
        """There is nothing to free: a rollout that is at work ends by itself, or with the task."""

    def _told(self, rollout: AppRollout, notes: Mapping[str, str]) -> Step | tuple[Step, ...]:
        task = self._task
        info = dict(rollout.info)
        if task.judge_url:
            with task.room(judging=True):
                verdict = task.judged(rollout.work(_asked(self._row), self._group, task.group_size))
            info |= _scores(verdict)
            notes = {**notes, "judge": verdict.judge, "judge_answer": verdict.raw}
        score = None if task.reward == "return" else _score(task.reward, rollout, info)
        if task.by_calls:
            return rollout.of_calls(score, info, notes)
        return rollout.of_whole(rollout.total if score is None else score, info, notes)


def _scores(verdict: Verdict) -> dict[str, float]:
    """A verdict's numbers for the logs and for algorithm.reward_blend."""
    scores = {f"judge_{name}": score for name, score in verdict.scores.items()}
    event = {"event": statistics.fmean(verdict.turn_rewards)} if verdict.turn_rewards else {}
    return scores | event | {"outcome": verdict.reward}


def _score(reward: str, rollout: AppRollout, info: Mapping[str, float]) -> float:
    """The reward of the whole: the app's own outcome, or the judge's."""
    if reward == "judge":
        return info["outcome"]
    if "outcome" not in rollout.info:
        raise OutsideError("The task app gives no metrics.outcome_score, which reward='outcome' takes: take "
                           "reward='return' for the sum of its steps' rewards.")
    return rollout.info["outcome"]


def _asked(row: Mapping[str, Any]) -> str:
    """What a row's prompt asks for, as a judge reads it."""
    prompt = row.get("prompt", "")
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(str(message.get("content", "")) for message in prompt)
