"""A run through an episode: the policy's turns and what the environment says to them, until one of them has
ended it."""
import dataclasses
import functools
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from jaxrl_moe.protocols import Task
from jaxrl_moe.serving.envs.session import Session
from jaxrl_moe.serving.policy.client import Policy, PolicyRefused
from jaxrl_moe.serving.policy.reading import Written
from jaxrl_moe.types import Action, EnvError, Messages, Status, Step, UserError

LONGEST_TALK = 2**21  # characters of a conversation, after which it is cut

Calls = Callable[[Callable[[Session, Task], Any]], Awaitable[Any]]  # makes a call of the episode's session


@dataclasses.dataclass
class Played:
    """An episode.

    Attributes:
      messages: of the conversation, as the policy is sent them.
      steps: what the environment said to each turn.
      turns: places of the turns among the messages.
      ended: why it has: done | truncated (by the environment) | max_round | refused (the policy's server took
        no further turn, as where the conversation is too long for it) | length; empty: it has not.
    """
    messages: list[dict[str, Any]]
    steps: list[Step] = dataclasses.field(default_factory=list)
    turns: list[int] = dataclasses.field(default_factory=list)
    ended: str = ""

    def add(self, written: Written, step: Step, rounds: int) -> None:
        """A further turn, of so many at most."""
        self.turns.append(len(self.messages))
        self.steps.append(step)
        self.finish_reason = written.finish_reason
        self.messages += [dict(written.message), *written.answered(step.observation)]
        if step.done:
            self.ended = "truncated" if step.truncated else "done"
        elif len(self.steps) >= rounds:
            self.ended = "max_round"
        elif self.characters > LONGEST_TALK:
            self.ended = "length"

    @property
    def characters(self) -> int:
        """Of all that was said."""
        return sum(len(str(message.get("content", ""))) for message in self.messages)

    @property
    def reward(self) -> float:
        """Of the whole: the sum over its turns."""
        return math.fsum(step.reward for step in self.steps)

    @property
    def success(self) -> bool:
        """Whether it is what the environment calls correct; where that calls nothing so, whether it ended by
        itself, with a reward."""
        correct = self.steps[-1].info.get("correct")
        return self.ended == "done" and self.reward > 0 if correct is None else correct >= 1

    @property
    def experiences(self) -> list[dict[str, Any]]:
        """The conversation; turns of the policy have what they were rewarded with, and what stood achieved
        after them where the environment tells."""
        told = list(map(dict, self.messages))
        for place, step in zip(self.turns, self.steps):
            told[place]["reward"] = step.reward
            if step.achieved is not None:
                told[place]["achieved"] = list(step.achieved)
        return told


@dataclasses.dataclass(frozen=True)
class Opening:
    """How an episode begins: with the row's own prompt, in place of the task's instructions, if it has one;
    and the task's seed."""
    prompt: Messages = ()
    seed: int = 0


PLAIN = Opening()


async def play(calls: Calls, row: Mapping[str, Any], policy: Policy, rounds: int,
               opening: Opening = PLAIN, **sampling: Any) -> Played:
    """Plays the episode of a row.

    Args:
      calls: makes the calls of its session.
      row: which it is.
      policy: whose turns they are.
      rounds: most turns.
      opening: how it begins.
      sampling: wishes of this episode's alone.

    Raises:
      EnvError: the policy or the environment failed.
    """
    begin = functools.partial(_begun, row, opening.seed)
    instructions, tools, shown = await _told(Status.RESET_FAILED, calls, begin)
    system = [{"role": "system", "content": instructions}] * bool(instructions)
    played = Played([*map(dict, opening.prompt or system), *map(dict, shown)])
    while not played.ended:
        try:
            turn = await policy.ask(played.messages, tools, **sampling)
        except PolicyRefused:  # of a first turn the request is wrong; a later one has become too long
            if not played.steps:
                raise
            played.ended = "refused"
            break
        step = await _told(Status.STEP_FAILED, calls, functools.partial(_acted, turn.action))
        played.add(turn, step, rounds)
    return played


def _begun(row: Mapping[str, Any], seed: int, session: Session, task: Task) -> tuple[str, Messages, Messages]:
    return *session.brief(task, row), session.open(task, row, seed)


def _acted(action: Action, session: Session, _: Task) -> Step:
    return session.act(action)


async def _told(failed: Status, calls: Calls, call: Callable[[Session, Task], Any]) -> Any:
    """What a call of the session gives; raises EnvError, whose status is the environment's own where it has
    said one, for what goes wrong in it."""
    try:
        return await calls(call)
    except UserError as error:
        cause = error.__cause__ or error
        status = cause.status if isinstance(cause, EnvError) else (
            failed if isinstance(cause, UserError) else Status.CRASHED)
        raise EnvError(status, str(error)) from error
