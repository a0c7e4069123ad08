"""How long a run waits for its judges, before it is launched."""
import dataclasses
import math
from collections.abc import Callable
from typing import Any

from jaxrl_moe.config import Config
from jaxrl_moe.data.seeds import seeds_of
from jaxrl_moe.envs.registry import declared
from jaxrl_moe.rl.table import lookup

PERSON = "human"  # of the setting judge_provider: people judge
MINUTES = 10.0  # of an answer, where nobody says: people take from 5 to 30
RANGE = (5.0, 30.0)
AT_ONCE = 4  # where neither the command nor the task says
# mode of a judge -> what an answer is about, and how many a group has
ANSWERS: dict[str, tuple[str, Callable[[int], int]]] = {
    "rubric": ("rollouts", lambda group: group), "ranking": ("groups", lambda group: 1),
    "pairwise": ("pairs", lambda group: group * (group - 1) // 2)}


@dataclasses.dataclass(frozen=True)
class JudgingTimes:
    """What a user says of his judges; 0 where he does not.

    Attributes:
      minutes: from the end of a rollout to its answer.
      at_once: works that judges have in hand, at most.
    """
    minutes: float = 0.0
    at_once: int = 0


NOTHING_SAID = JudgingTimes()


@dataclasses.dataclass(frozen=True)
class Waiting:
    """A run's rollouts as its judges meet them.

    Attributes:
      steps: of the run; per_step: answers that each waits for; unit: of what they are, a key of ANSWERS.
      evaluations: on held-out prompts; per_evaluation: rollouts of each, or, where the number of held-out
        prompts stands in the data alone, of each prompt of them.
      prompts_known: which of the two.
      minutes, at_once: see JudgingTimes.
    """
    steps: int
    per_step: int
    unit: str
    evaluations: int
    per_evaluation: int
    prompts_known: bool
    minutes: float
    at_once: int

    @property
    def answers(self) -> int:
        """Of the training."""
        return self.steps * self.per_step

    def hours(self, minutes: float) -> float:
        """Of the training, where each answer takes so many minutes: a step's works go to the judges
        at_once at a time, and a step waits for those of the one before."""
        return self.steps * math.ceil(self.per_step / self.at_once) * minutes / 60

    def hours_of_evaluations(self, minutes: float) -> float:
        """Likewise, of all evaluations."""
        return self.evaluations * math.ceil(self.per_evaluation / self.at_once) * minutes / 60

    @property
    def hours_of_work(self) -> float:
        """That judges spend on the training's answers, all together."""
        return self.answers * self.minutes / 60


def waiting(config: Config, asked: JudgingTimes) -> Waiting | None:
    """What a run waits; None where no person judges and nobody asks.

    Raises:
      ConfigError: env.name cannot be read.
    """
    settings = declared(config.env.name)
    if asked == NOTHING_SAID and settings.get("judge_provider") != PERSON:
        return None
    rollout = config.rollout
    prompts = held_out(config)
    drawn = config.eval.samples + config.eval.greedy
    unit, of_group = lookup(ANSWERS, settings.get("judge_mode", "rubric"), "mode of a judge")
    return Waiting(
        steps=config.train.steps, per_step=rollout.prompts_per_step * of_group(rollout.group_size), unit=unit,
        evaluations=evaluations(config), per_evaluation=max(1, prompts) * drawn, prompts_known=prompts > 0,
        minutes=asked.minutes or MINUTES,
        at_once=asked.at_once or _at_once(config, settings))


def _at_once(config: Config, settings: dict[str, Any]) -> int:
    """As many as the task lets out, where it says: 0 are all of a step."""
    bound = settings.get("max_concurrent_rollouts", AT_ONCE)
    return bound or config.rollout.prompts_per_step * config.rollout.group_size


def evaluations(config: Config) -> int:
    """How often a whole run evaluates on held-out prompts: before the first step, each so many steps, and at
    the end."""
    section = config.eval
    steps = config.train.steps
    if not config.data.eval_source:
        return 0
    later = math.ceil(steps / section.every) if section.every else min(1, steps)
    return later + section.at_start


def held_out(config: Config) -> int:
    """Prompts of an evaluation; 0: their number stands in the data alone."""
    there = len(seeds_of(config.data.eval_seeds)) if config.data.eval_seeds else 0
    used = config.eval.prompts * max(1, len(config.data.held_out_files))
    return min(filter(None, (used, there)), default=0)


def waiting_lines(judged: Waiting) -> list[str]:
    """The estimate in words."""
    low, high = map(judged.hours, RANGE)
    one = _duration(judged.minutes / 60)
    lines = [f"judges: {judged.answers:,} {judged.unit} ({judged.steps} steps of {judged.per_step}), {one} "
             f"each, {judged.at_once} at a time: {_duration(judged.hours(judged.minutes))} of waiting; at "
             f"{RANGE[0]:g} to {RANGE[1]:g} minutes {_duration(low)} to {_duration(high)}. That is "
             f"{_duration(judged.hours_of_work)} of judging: one person alone at it needs as long."]
    if judged.evaluations:
        whose = "" if judged.prompts_known else " for each held-out prompt (eval.prompts = 0 takes all)"
        lines.append(f"judges, evaluations: {judged.evaluations} of {judged.per_evaluation:,} rollouts{whose}"
                     f": another {_duration(judged.hours_of_evaluations(judged.minutes))} of waiting.")
    return [*lines, "note: rollouts that are drawn again, as under rollout.dynamic_sampling or after a "
            "failure, are not counted, nor what a cache of answers or rollout.max_staleness saves."]


def _duration(hours: float) -> str:
    """Hours where they are some, else minutes or seconds."""
    for unit, size in (("h", 1.0), ("min", 1 / 60)):
        if hours >= size:
            return f"{hours / size:,.1f} {unit}"
    return f"{hours * 3600:,.0f} s"
