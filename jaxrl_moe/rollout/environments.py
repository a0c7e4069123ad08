"""The environments of many episodes, each asked by one thread at a time, with time-outs. Process 0 alone has
them."""
import dataclasses
import time
from collections.abc import Callable
from typing import Any

from jaxrl_moe.rollout.answers import Answer, Answering, Held, Key
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.rollout.graders import Job
from jaxrl_moe.rollout.grades import (
    checked_env,
    checked_messages,
    checked_step,
    named,
    no_messages,
    single_step,
)
from jaxrl_moe.types import Action, EnvError, Messages, Prompt, Status, Step


@dataclasses.dataclass
class _Playing(Held):
    """An episode's environment, and what its thread is at; no job: it has answered."""
    turn: int = 0
    attempt: int = 0
    seconds: float = 0.0
    fired: bool = False  # a time-out that an earlier start of the run recorded


class Environments(Answering):
    """Opens, asks and closes the environments of a task. One thread calls it; answers come in any order.

    Args:
      episodes: the task, its seed and limits.
      stream: of noise.
    """

    def __init__(self, episodes: Episodes, stream: int):
        super().__init__(episodes)
        self._stream = stream
        self._held: dict[Key, _Playing]

    def begin(self, key: Key, prompt: Prompt, attempt: int) -> None:
        """Opens a fresh environment; its answer has the messages that it begins with."""
        self._held[key] = playing = _Playing(prompt, attempt=attempt)
        self._ask(key, lambda: self._open(playing, key))

    def act(self, key: Key, action: Action) -> None:
        """Takes an action to an episode that has begun; its answer has the step."""
        playing = self._held[key]
        playing.turn += 1
        self._ask(key, lambda: checked_step(playing.env.step(action)))

    def grade(self, key: Key, prompt: Prompt, action: Action, attempt: int) -> None:
        """Plays an episode whose only action this is; its answer has the step."""
        self._held[key] = playing = _Playing(prompt, attempt=attempt)

        def play() -> Step:
            try:
                no_messages(self._open(playing, key))
                return single_step(checked_step(playing.env.step(action)))
            finally:
                playing.close()
        self._ask(key, play)

    @property
    def outstanding(self) -> list[Key]:
        """Episodes whose environment has not answered."""
        return [key for key, playing in self._held.items() if playing.job is not None]

    def _ask(self, key: Key, work: Callable[[], Any]) -> None:
        playing = self._held[key]
        playing.fired = self._episodes.fired(self._stream, key, playing.attempt, playing.turn)
        playing.job = Job(work)
        if not playing.fired:
            self._threads.put(playing.job)

    def _open(self, playing: _Playing, key: Key) -> Messages:
        seed = self._episodes.env_seed(self._stream, key[0])
        try:
            playing.env = checked_env(self._task.open(playing.prompt.row, seed))
            return checked_messages(playing.env.reset())
        except EnvError as error:
            status = Status.RESET_FAILED if error.status == Status.STEP_FAILED else error.status
            raise EnvError(status, str(error), error.final) from error

    def _over(self, key: Key) -> bool:
        playing = self._held[key]
        return playing.job.done or playing.fired or self._late(playing)

    def _late(self, playing: _Playing) -> bool:
        if playing.job.started is None:
            return False
        took = time.monotonic() - playing.job.started
        return self._beyond(took, playing.seconds + took)

    def _taken(self, key: Key) -> Answer:
        playing = self._held[key]
        return self._answer(key, playing) if playing.job.done else self._timed_out(key, playing)

    def _answer(self, key: Key, playing: _Playing) -> Answer:
        job = playing.job
        playing.job = None
        playing.seconds += job.seconds
        try:
            with named(playing.prompt, self._task):
                if job.error is not None:
                    raise job.error
        except EnvError as error:
            if error.status == Status.TIMED_OUT:  # of the task's own, as of a call
                self._episodes.note_fired(self._stream, key, playing.attempt, playing.turn)
            return Answer(key, status=error.status, message=str(error), final=error.final,
                          seconds=job.seconds)
        if isinstance(job.result, Step):
            return Answer(key, step=job.result, seconds=job.seconds)
        return Answer(key, messages=job.result, seconds=job.seconds)

    def _timed_out(self, key: Key, playing: _Playing) -> Answer:
        self._episodes.note_fired(self._stream, key, playing.attempt, playing.turn)
        took = time.monotonic() - playing.job.started if playing.job.started else 0.0
        if playing.fired:  # nobody is at it
            playing.job = None
        self.end(key)
        what = f"turn {playing.turn}" if playing.turn else "its beginning"
        return Answer(key, status=Status.TIMED_OUT, seconds=took, message=(
            f"{playing.prompt.origin}: the environment did not answer {what} in time {self._limits}."))

