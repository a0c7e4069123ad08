"""Plays a rollout: the policy writes, rules look at it, it revises, a judge looks at the end."""
import math
from collections.abc import Mapping

from jaxrl_moe.judges.records import Work
from jaxrl_moe.outgoing.urls import Allowed
from jaxrl_moe.serving.tasks.bodies import RolloutRequest, RolloutResponse
from jaxrl_moe.serving.tasks.judging import Judging
from jaxrl_moe.serving.tasks.played import Played, TurnPlayed, response
from jaxrl_moe.serving.tasks.policy import OutOfTime, PolicyCalls, PolicyRefused
from jaxrl_moe.serving.tasks.stop import Stop
from jaxrl_moe.serving.tasks.task import AppEpisode, AppTask, Look
from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import UserError


class Player:
    """Plays the rollouts of a task. Any thread may call it.

    Args:
      task: whose they are.
      judging: of their outcomes.
      allowed: URLs of policies.
      timeout: seconds that a call of the policy may take.
    """

    def __init__(self, task: AppTask, judging: Judging, allowed: Allowed, timeout: float):
        self.task = task
        self.judging = judging
        self._allowed = allowed
        self._timeout = timeout

    def check(self, request: RolloutRequest) -> AppEpisode:
        """The instance that a request names; raises UserError for one that cannot be played."""
        name = request.env.env_name
        if name and name.replace("-", "_") != self.task.name:
            raise UserError(f"env.env_name = {quoted(name)} is not served here, but {self.task.name!r} is."
                            f"{did_you_mean(name, [self.task.name])}")
        return self.task.open(request.env.seed)

    def play(self, request: RolloutRequest, stop: Stop) -> RolloutResponse:
        """The answer to a request.

        Raises:
          Stopped: it was stopped.
          UserError: it cannot be played, or the policy, the browser or the judge fails.
        """
        episode = self.check(request)
        try:
            played = self._turns(request, episode, stop)
            self._judge(request, played, stop)
        except UserError:
            stop.check()  # what was closed under its hands fails
            raise
        return response(request, self.task, played)

    def _turns(self, request: RolloutRequest, episode: AppEpisode, stop: Stop) -> Played:
        """Turns until the rules are kept or a limit comes."""
        policy = PolicyCalls(request.policy.config, self._allowed, request.safety.max_time_s, self._timeout)
        try:
            stop.hold(policy.close)
            played = Played(episode.brief, list(episode.begin()))
            limits = self._limits(request)
            while not played.ended:
                stop.check()
                written = policy.ask(played.messages)
                look = episode.look(written.text, stop)
                played.add(TurnPlayed(played.messages[-1]["content"], written, look))
                played.messages += (written.message, {"role": "user", "content": _revision(look)})
                reached = [name for name, most in limits.items() if len(played.turns) >= most]
                played.ended = "done" if not look.findings else next(iter(reached), "")
        except OutOfTime:
            played.ended = "max_time_s"
        except PolicyRefused:  # of a first turn the request is wrong; a later one has become too long
            if not played.turns:
                raise
            played.ended = "refused"
        finally:
            policy.close()
        return played

    def _limits(self, request: RolloutRequest) -> Mapping[str, float]:
        """Name of what bounds the turns -> so many."""
        return {"max_turns": request.env.config.max_turns or self.task.max_turns,
                "ops": len(request.ops) // 2 if request.ops else math.inf,
                "max_ops": request.safety.max_ops // 2}

    def _judge(self, request: RolloutRequest, played: Played, stop: Stop) -> None:
        """Has the end judged, where there is a judge and something to be judged."""
        if played.aborted or not played.turns[-1].look.parts:
            return
        work = Work(played.brief, played.handed_in, played.turns[-1].look.parts)
        played.verdict = self.judging.verdict(work, request.policy.policy_name or "",
                                              request.training_session_id or "", stop)


def _revision(look: Look) -> str:
    """What the policy is shown of a turn."""
    if not look.findings:
        return "No rule is broken."
    return "\n".join(["These rules are broken:", *(f"- {each}" for each in look.findings),
                      "Mend that, and hand in all of it again."])
