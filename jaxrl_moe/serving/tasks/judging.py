"""What a rollout's outcome is worth: by a judge, where the server has one, and else by rules."""
import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from jaxrl_moe.judges.records import Verdict, Work
from jaxrl_moe.judges.rubric import Rubric
from jaxrl_moe.serving.tasks.stop import Stop
from jaxrl_moe.types import EnvError, Status, UserError


class Scorer(Protocol):
    """What is needed of judges.client.JudgeClient."""

    def score(self, work: Work, *, policy_name: str, task_app_id: str, rubric: Rubric | None, turns: bool,
              run: str) -> Verdict: ...

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class JudgeOptions:
    """url: of the judge server; empty: there is none. provider, model, rubric_id: which judge there, and by
    which rubric; empty: it by its own choice, and by the task's. turns: whether it scores each turn too.
    deadline: seconds that its answer has, 0: any time; on_deadline: what then."""
    url: str = ""
    api_key: str = dataclasses.field(default="", repr=False)
    provider: str = ""
    model: str = ""
    rubric_id: str = ""
    turns: bool = False
    deadline: float = 0.0
    on_deadline: str = "drop"

    def scorer(self) -> Scorer:
        """A client of the judge."""
        from jaxrl_moe.judges.client import JudgeClient
        late = self.on_deadline if self.deadline else "wait"
        return JudgeClient(self.url, api_key=self.api_key, provider=self.provider, model=self.model,
                           rubric_id=self.rubric_id, deadline=self.deadline, on_deadline=late)


class Judging:
    """Asks the judge of a server, if it has one.

    Args:
      options: of the judge.
      task: name of the task app.
      rubric: of the task.
      scorer: makes a client of the judge, one for each rollout, so that it can be closed with it.
    """

    def __init__(self, options: JudgeOptions, task: str, rubric: Rubric,
                 scorer: Callable[[], Scorer] | None = None):
        self.options = options
        self._task = task
        self._rubric = None if options.rubric_id else rubric
        self._scorer = scorer or options.scorer

    def verdict(self, work: Work, policy: str, run: str, stop: Stop) -> Verdict | None:
        """What the judge says; None where there is no judge.

        Raises:
          UserError: it says nothing, or not what it was asked.
        """
        if not self.options.url:
            return None
        scorer = self._scorer()
        try:
            stop.hold(scorer.close)
            verdict = scorer.score(work, policy_name=policy, task_app_id=self._task, rubric=self._rubric,
                                   turns=self.options.turns, run=run)
        finally:
            scorer.close()
        if self.options.turns and len(verdict.turn_rewards) != len(work.turns):
            raise EnvError(Status.MALFORMED, f"The judge gave {len(verdict.turn_rewards)} rewards for "
                           f"{len(work.turns)} turns: choose one that scores turns, or start the server "
                           "without --judge_turns.")
        return verdict

    def told(self) -> dict[str, Any]:
        """Who judges, for /task_info."""
        options = self.options
        return {"by": "judge" if options.url else "rules", "provider": options.provider,
                "model": options.model, "turns": options.turns}


def checked_options(options: JudgeOptions) -> JudgeOptions:
    """The options; raises UserError for one that changes nothing, or has no such value."""
    if not options.url:
        for name in ("api_key", "model", "rubric_id", "turns", "deadline"):
            if getattr(options, name):
                flag = {"api_key": "judge_key_env", "rubric_id": "judge_rubric"}.get(name, f"judge_{name}")
                raise UserError(f"--{flag} changes nothing without a judge: give --judge_url, or leave it "
                                "out.")
    if options.on_deadline not in ("drop", "model"):
        raise UserError(f"--judge_on_deadline={options.on_deadline!r} is not known: give drop or model; "
                        "--judge_deadline=0 waits for ever.")
    return options
