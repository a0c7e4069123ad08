"""What is needed to play episodes of a run, whichever prompt they are of."""
import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from jaxrl_moe.config import EpisodesSection
from jaxrl_moe.protocols import Task
from jaxrl_moe.rollout.agents.sessions import AgentSessions
from jaxrl_moe.rollout.episode import Episode, Talk
from jaxrl_moe.rollout.timeouts import Timeouts
from jaxrl_moe.types import Messages, Prompt

Decode = Callable[[Sequence[int]], str]
MOST_PLAYED = 4096  # episodes that others play at a time
MakeTalk = Callable[[Prompt, Messages], Talk]  # of a prompt and its tools


@dataclasses.dataclass(frozen=True)
class Episodes:
    """How a task's episodes are played.

    Attributes:
      task: opens them.
      decode: token ids to text.
      seed: of the run; with stream and draw number it decides the seed that an episode is opened with.
      graders: threads that may be in environments at once; a task that is not concurrent has one.
      settings: rounds, time-outs, and what becomes of failures.
      talk: makes what turns a prompt's conversation into tokens; needed where there are several turns.
      longest: tokens of the longest sequence, prompt included; 0: only the engine's context bounds it.
      timeouts: those that fired, kept for a run that is resumed; None: not kept.
      sessions: of the agents that play them; needed where the task says that agents do.
    """
    task: Task
    decode: Decode
    seed: int = 0
    graders: int = 1
    settings: EpisodesSection = EpisodesSection()
    talk: MakeTalk | None = None
    longest: int = 0
    timeouts: Timeouts | None = None
    sessions: AgentSessions | None = None

    @property
    def threads(self) -> int:
        """Most threads that are in environments; those that wait for servers which play whole episodes, one
        each."""
        if self.task.ends_itself:
            return MOST_PLAYED
        return self.graders if self.task.concurrent else 1

    @property
    def single(self) -> bool:
        """Whether an episode is the grading of one completion."""
        return self.task.max_turns == 1

    @property
    def by_agents(self) -> bool:
        """Whether agents elsewhere play them."""
        return self.task.by_agents

    def rounds(self, step: int, prompt: Prompt) -> int:
        """Most turns of an episode of the prompt that is begun for a step."""
        most = self.task.turns_of(prompt.row)
        scheduled = self.settings.rounds
        if not scheduled:
            return most
        number = step // self.settings.rounds_every if self.settings.rounds_every else 0
        return min(scheduled[min(number, len(scheduled) - 1)], most)

    def episode(self, prompt: Prompt, sequence: int, sample: int, rounds: int) -> Episode:
        """A new one."""
        scale = self.task.scaled_from(prompt.row)
        if self.single or self.by_agents:
            return Episode(prompt, sequence, sample, rounds, None, scale=scale)
        tools = (*prompt.tools, *self.task.tools(prompt.row))
        return Episode(prompt, sequence, sample, rounds, functools.partial(self.talk, prompt, tools),
                       tools, scale)

    def env_seed(self, stream: int, sequence: int) -> int:
        """What all environments of a group are opened with."""
        return int(np.random.SeedSequence((self.seed, stream, sequence)).generate_state(1)[0])

    def fired(self, stream: int, key: tuple[int, int], attempt: int, turn: int) -> bool:
        """Whether an earlier start of the run saw this time out."""
        return self.timeouts is not None and self.timeouts.known((stream, *key, attempt, turn))

    def note_fired(self, stream: int, key: tuple[int, int], attempt: int, turn: int) -> None:
        """It has timed out."""
        if self.timeouts is not None:
            self.timeouts.note((stream, *key, attempt, turn))
