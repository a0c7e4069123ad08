"""The runs of a soak: the quickstart's task with smaller batches, and when they are killed."""
import dataclasses
import random
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from benchmarks import recipes
from jaxrl_moe.config import base

QUICKSTART = "quickstart"
# of a step
PROMPTS = 8
GROUP = 8
KEEP = 2  # checkpoints, beside the best by evaluation
AT_A_START = 0.25  # of the kills come while a process starts


@dataclasses.dataclass(frozen=True)
class Leg:
    """One run: what differs from the settings of all, whether it is killed, and whether clients ask it
    meanwhile."""
    name: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    killed: bool = True
    served: bool = False

    @property
    def repeats(self) -> bool:
        """Whether it must come to the bits of the run that is never killed: others' calls, and rollouts
        ahead, make a run depend on timing."""
        return not self.served and not self.max_staleness

    @property
    def max_staleness(self) -> int:
        return self.changes.get("rollout.max_staleness", 0)


UNKILLED = Leg("never killed", killed=False)
KILLED_ONES = (
    Leg("killed"),
    Leg("killed, with clients", {"endpoint.serve": True}, served=True),
    Leg("killed, ahead", {"rollout.max_staleness": 1, "algorithm.corrections": ("tis",)}))


def start_settings(run_dir: str) -> ConfigDict:
    """The SFT that all legs start from: data, model, and a policy whose rewards differ."""
    settings = recipes.load(QUICKSTART)
    settings.run_dir = run_dir
    settings.sft.steps = 80
    settings.eval.prompts = 64
    return settings


def settings(start: str, run_dir: str, steps: int, changes: Mapping[str, Any]) -> ConfigDict:
    """The settings of a leg, over the data and the model of the run in `start`. The rate is constant, so that
    a step does not depend on how many there are."""
    settings = recipes.load(QUICKSTART)
    settings.run_dir = run_dir
    settings.model.path = f"{start}/sft/model"
    settings.data.path = f"{start}/data/train.jsonl"
    settings.data.eval_path = f"{start}/data/eval.jsonl"
    settings.data.generate = settings.sft.path = ""
    settings.scratch.update(base().scratch)
    settings.rollout.prompts_per_step = PROMPTS
    settings.rollout.group_size = GROUP
    settings.rollout.slots = PROMPTS * GROUP
    settings.optimizer.schedule = "constant"
    settings.optimizer.learning_rate = 1e-4
    settings.train.steps = steps
    settings.eval.every = 10
    settings.eval.prompts = 16
    settings.eval.at_start = False
    settings.checkpoint.every = 4
    settings.checkpoint.keep = KEEP
    settings.update_from_flattened_dict(dict(changes))
    return settings


class Moments:
    """When a leg is killed: a while after each of some random steps, and now and then a while after a start.

    Args:
      steps: of the leg.
      kills: how many, at most one a step.
      step_s, start_s: about how long a step and a start take.
      generator: of all that is random here.
    """

    def __init__(self, steps: int, kills: int, step_s: float, start_s: float, generator: random.Random):
        self._steps = sorted(generator.sample(range(1, steps), min(kills, steps - 1)))
        self._step_s = step_s
        self._start_s = start_s
        self._generator = generator
        self._due: float | None = None

    def started(self) -> None:
        """A process starts."""
        self._due = None
        if self._steps and self._generator.random() < AT_A_START:
            self._due = self._generator.uniform(0.0, self._start_s)

    def is_due(self, step: int, seconds: float) -> bool:
        """Whether the process that has run for so many seconds, and whose log has come to this step, is to be
        killed now."""
        if self._due is None and self._steps and step >= self._steps[0]:
            self._due = seconds + self._generator.uniform(0.0, 2 * self._step_s)
        if self._due is None or seconds < self._due:
            return False
        self._steps.pop(0)
        self._due = None
        return True
