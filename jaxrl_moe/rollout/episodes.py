"""Episodes: what the policy does is taken to a task's environment, and an Outcome comes back. Here, those of
one step."""
import contextlib
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxrl_moe.protocols import Task
from jaxrl_moe.rollout.graders import in_order
from jaxrl_moe.rollout.grades import Unfit, checked_env, checked_messages, checked_step, named
from jaxrl_moe.types import Action, Completion, Outcome, Prompt, Status, Step

Decode = Callable[[Sequence[int]], str]


@dataclasses.dataclass(frozen=True)
class Episodes:
    """What turns completions into outcomes.

    Attributes:
      task: opens the episodes.
      decode: token ids to text.
      seed: of the run; with stream and draw number it decides the seed that an episode is opened with.
      graders: threads that may be in episodes at once; a task that is not concurrent has one.
    """
    task: Task
    decode: Decode
    seed: int = 0
    graders: int = 1

    @property
    def threads(self) -> int:
        return self.graders if self.task.concurrent else 1

    def action(self, completion: Completion) -> Action:
        """A completion as its environment sees it. The text has no special tokens, so a stop token is not
        part of it."""
        return Action(self.decode(completion.ids.tolist()), len(completion.ids), truncated(completion))

    def play(self, prompt: Prompt, sequence: int, stream: int, action: Action) -> Outcome:
        """Plays an episode of one step: the completion is its only action.

        Raises:
          GradeError: the task breaks, says what it may not, wants several turns, or shows messages that the
            prompt has not.
        """
        seed = np.random.SeedSequence((self.seed, stream, sequence)).generate_state(1)[0]
        with named(prompt, self.task):
            step = self._only_step(prompt, int(seed), action)
        return Outcome(step.reward, Status.TRUNCATED if action.truncated else Status.FINISHED, step.info,
                       (step,))

    def _only_step(self, prompt: Prompt, seed: int, action: Action) -> Step:
        with contextlib.closing(checked_env(self.task.open(prompt.row, seed))) as env:
            if checked_messages(env.reset()):
                raise Unfit("opens the row with messages of its own, and a run of single completions shows "
                            "the policy the row's prompt alone: put them into the prompt.")
            step = checked_step(env.step(action))
        if not step.done:
            raise Unfit("goes on after the first completion, and a run of single completions has one turn an "
                        "episode: take a task that grades one completion.")
        return step

    def play_all(self, wanted: Sequence[tuple[Prompt, int, int, Action]]) -> list[Outcome]:
        """play() of each, by several threads; in their order."""
        return in_order([lambda episode=episode: self.play(*episode) for episode in wanted], self.threads)


def truncated(completion: Completion) -> bool:
    return completion.finish_reason == "length"
