"""A session: one try of an episode that an agent plays, and the calls that it has made."""
import dataclasses
import enum
import secrets
import time
from collections.abc import Callable, Sequence

import numpy as np

from jaxrl_moe.rollout.agents.tree import Call, Chat, in_order, parent_of
from jaxrl_moe.types import (
    Completion,
    EnvError,
    Messages,
    Prompt,
    Request,
    SamplingParams,
    Status,
    Step,
    UserError,
)


class SessionFault(enum.Enum):
    """Why a session does not do what it is asked to."""
    UNKNOWN = "session_not_found"
    ENDED = "session_ended"
    LIMIT = "session_limit"
    CONTEXT = "context_length_exceeded"


class SessionError(UserError):
    """A session cannot do what an agent asks.

    Attributes:
      fault: of which kind it is.
    """

    def __init__(self, fault: SessionFault, message: str):
        super().__init__(message)
        self.fault = fault


@dataclasses.dataclass(frozen=True)
class SessionPlan:
    """What a session is opened for.

    Attributes:
      prompt: whose row the agent gets.
      params: how all turns are drawn; max_tokens bounds each.
      sequence, sample, stream: with the number of a call they decide its noise.
      rounds: most calls.
      longest: tokens of the longest sequence.
    """
    prompt: Prompt
    params: SamplingParams
    sequence: int
    sample: int
    stream: int
    rounds: int
    longest: int


class AgentSession:
    """What is known of a session. AgentSessions guards it.

    Attributes:
      id: 128 random bits, which are all that its calls need.
      calls: those that were drawn to their end, in that order.
      taken: whether an agent has it.
      outcome: what came of the whole, or of each call, or why it failed; None: it goes on.
      ending: whether no further call is drawn, so that the agent should finish.
      limited: whether a limit has refused a call.
    """

    def __init__(self, plan: SessionPlan):
        self.id = secrets.token_hex(16)
        self.plan = plan
        self.calls: list[Call] = []
        self.taken = False
        self.outcome: Step | tuple[Step, ...] | EnvError | None = None
        self.ending = False
        self.limited = False
        self._turns = 0
        self._drawing: set[int] = set()  # turns
        self._since = time.monotonic()  # nothing has been asked or drawn
        self._outside = 0.0             # seconds between calls, of those that are over

    @property
    def truncated(self) -> bool:
        """Whether a limit of tokens or calls has ended it."""
        cut = bool(self.calls) and self.calls[-1].completion.finish_reason == "length"
        return self.limited or cut

    @property
    def idle(self) -> float:
        """Seconds since the agent has last been heard of, while it has nothing drawn."""
        return time.monotonic() - self._since if self.taken and not self._drawing else 0.0

    @property
    def outside(self) -> float:
        """Seconds that were not spent on its calls."""
        return self._outside + self.idle

    @property
    def steps(self) -> tuple[Step, ...]:
        """What it came to: of each call, or of the whole alone; empty: nothing by now."""
        if isinstance(self.outcome, Step):
            return (self.outcome,)
        return self.outcome if isinstance(self.outcome, tuple) else ()

    def judged(self, outcome: Step | tuple[Step, ...]) -> Step | tuple[Step, ...] | EnvError:
        """What came of it as its agent says; why it failed, where that cannot be."""
        told = len(outcome) if isinstance(outcome, tuple) else len(self.calls)
        if not self.calls:
            return EnvError(Status.MALFORMED, "its agent finished without a call of the policy")
        if told != len(self.calls):
            return EnvError(Status.MALFORMED, f"its agent tells of {told} steps, and has made "
                            f"{len(self.calls)} calls of the policy: one step belongs to each")
        if isinstance(outcome, tuple) and not in_order(self.calls):
            return EnvError(Status.MALFORMED, "its agent goes back and forth between conversations, whose "
                            "calls cannot be rewarded one by one")
        return outcome

    def take(self) -> None:
        """An agent has it from now on."""
        self.taken = True
        self._since = time.monotonic()

    def enter(self, ids: np.ndarray, max_tokens: int | None, stop_ids: Sequence[int],
              stops: Sequence[str]) -> Request:
        """A call begins; returns what the engine is asked.

        Args:
          ids: [T] the prompt.
          max_tokens: that the agent allows; None: as many as the run does.
          stop_ids, stops: at which the turn ends too.

        Raises:
          SessionError: a limit stands against it.
        """
        plan = self.plan
        self._check_turn()
        room = plan.longest - len(ids)
        if room < 1:
            self.limited = True
            raise SessionError(SessionFault.CONTEXT, (
                f"The prompt has {len(ids)} tokens, and a sequence of this episode may have {plan.longest} "
                "with what is drawn. Finish the session, or send a shorter prompt."))
        if max_tokens is not None and max_tokens > plan.params.max_tokens:
            raise SessionError(SessionFault.LIMIT, (
                f"max_tokens = {max_tokens} is more than the {plan.params.max_tokens} that a turn of this "
                "run may have: lower it, or leave it out."))
        params = dataclasses.replace(
            plan.params, n=1, max_tokens=min(room, max_tokens or plan.params.max_tokens),
            stop_ids=(*plan.params.stop_ids, *stop_ids), stop_strings=(*plan.params.stop_strings, *stops))
        request = Request(ids, params, plan.sequence, self._turns, plan.stream, plan.sample)
        self._outside += self.idle
        self.taken = True
        self._turns += 1
        self._drawing.add(request.turn)
        return request

    def _check_turn(self) -> None:
        if self.ending or self._turns >= self.plan.rounds:
            self.limited = True
            why = ("The run ends this episode" if self.ending else
                   f"The session has had the {self.plan.rounds} calls that its episode may have")
            raise SessionError(SessionFault.LIMIT, f"{why}: finish it with the reward of what there is.")

    def drew(self, request: Request, completion: Completion, shown: Callable[[Call], Messages],
             chat: Chat | None, text: str | None) -> None:
        """A call was drawn to its end; `shown` says what the agent said after the one that it goes on
        from."""
        parent = parent_of(request.ids, self.calls)
        said = shown(parent) if parent else ()
        self.calls.append(Call(request.ids, completion, parent, said, chat, text))

    def left(self, turn: int) -> None:
        """Nothing more is drawn for a call. A second time it does nothing."""
        if turn in self._drawing:
            self._drawing.remove(turn)
            self._since = time.monotonic()
