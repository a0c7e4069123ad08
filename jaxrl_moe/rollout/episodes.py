"""Episodes: what the policy does is taken to a task's environment, and an Outcome comes back. Here, those of
one step."""
import contextlib
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxrl_moe.protocols import Task
from jaxrl_moe.rollout.graders import in_order
from jaxrl_moe.types import Action, Completion, Outcome, Prompt, Status, UserError

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
          UserError: the task wants several turns, shows messages that the prompt has not, or raises one
            itself; file and row are named.
        """
        seed = np.random.SeedSequence((self.seed, stream, sequence)).generate_state(1)[0]
        row = prompt.where or f"data row {prompt.index}"
        try:
            with contextlib.closing(self.task.open(prompt.row, int(seed))) as env:
                opening = env.reset()
                step = None if opening else env.step(action)
        except UserError as error:
            raise UserError(f"{row}: {error}") from error
        if step is None:
            raise UserError(f"The task opens {row} with messages of its own, and a run of single completions "
                            "shows the policy the row's prompt alone: put them into the prompt.")
        if not step.done:
            raise UserError(f"The task goes on after the first completion of {row}, and a run of single "
                            "completions has one turn an episode: take a task that grades one completion.")
        return Outcome(float(step.reward), Status.TRUNCATED if action.truncated else Status.FINISHED,
                       {name: float(value) for name, value in step.info.items()}, (step,))

    def play_all(self, wanted: Sequence[tuple[Prompt, int, int, Action]]) -> list[Outcome]:
        """play() of each, by several threads; in their order."""
        return in_order([lambda episode=episode: self.play(*episode) for episode in wanted], self.threads)


def truncated(completion: Completion) -> bool:
    return completion.finish_reason == "length"
