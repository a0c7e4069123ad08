"""Episodes in the hands of agents, as the driver of episodes asks for them: each is a session."""
import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Sequence

from jaxrl_moe.rollout.agents.session import AgentSession, SessionError, SessionPlan
from jaxrl_moe.rollout.agents.sessions import AgentSessions, StoppedError
from jaxrl_moe.rollout.agents.tree import drafts
from jaxrl_moe.rollout.answers import Answer, Answering, Held, Key
from jaxrl_moe.rollout.episode import Draft
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.rollout.graders import Job
from jaxrl_moe.rollout.grades import checked_agent_episode, checked_outcome, named
from jaxrl_moe.types import EnvError, Prompt, SamplingParams, Status, Step

REMINDER_S = 60.0  # without an agent, upon which it is said that episodes wait


@dataclasses.dataclass(kw_only=True)
class _Given(Held):
    """An episode that was given away."""
    session: AgentSession
    start: float = dataclasses.field(default_factory=time.monotonic)
    over: bool = False


class Agents(Answering):
    """Opens sessions, hands them out, and hears what came of them. One thread calls it.

    Args:
      episodes: the task, its limits, and the sessions.
      stream: of noise.
      params: how turns are drawn.
      longest: tokens of the longest sequence.
    """

    def __init__(self, episodes: Episodes, stream: int, params: SamplingParams, longest: int):
        self._sessions: AgentSessions = episodes.sessions
        super().__init__(episodes, self._sessions.changed)
        self._stream = stream
        self._params = params
        self._longest = longest
        self._held: dict[Key, _Given]

    def give(self, key: Key, prompt: Prompt, rounds: int) -> None:
        """Opens a session of so many calls at most; its answer has what came of it."""
        plan = SessionPlan(prompt, self._params, *key, self._stream, rounds, self._longest)
        given = _Given(prompt, session=self._sessions.open(plan))
        given.job = Job(functools.partial(self._send, given, key))
        self._held[key] = given
        self._threads.put(given.job)

    def _send(self, given: _Given, key: Key) -> None:
        """In a thread: the task has the episode played, or leaves it to the next agent that asks."""
        session = given.session
        self._sessions.begin(session)
        seed = self._episodes.env_seed(self._stream, key[0])
        given.env = checked_agent_episode(self._task.open(given.prompt.row, seed))
        outcome = given.env.play(self._sessions.address(session))
        if outcome is None:
            self._sessions.offer(session)
            return
        with contextlib.suppress(SessionError):  # its agent has finished it, or the run has given it up
            self._sessions.finish(session.id, checked_outcome(outcome))

    def drafts(self, key: Key) -> tuple[list[Draft], bool, Sequence[Step]]:
        """(the token sequences of an episode that has ended, whether a limit ended it, what each of its calls
        but the last came to, if that is known)."""
        session = self._held[key].session
        before = session.steps[:-1]
        return drafts(session.calls, before), session.truncated, before

    def cut(self, key: Key) -> None:
        """Draws nothing more for an episode, and its agent is told to finish. Where it has no turn yet
        nothing is done: without one it would have failed."""
        session = self._held[key].session
        with self._sessions.changed:
            session.ending = bool(session.calls)

    def end(self, key: Key) -> None:
        """Ends a session, without waiting for whoever plays it."""
        given = self._held.get(key)
        if given is not None:
            self._sessions.end(given.session, "the run has its outcome" if given.over else
                               "the run has given the episode up")
        super().end(key)

    @property
    def outstanding(self) -> list[Key]:
        return [key for key, given in self._held.items() if not given.over]

    def _enough(self, wanted: Sequence[Key]) -> bool:
        if self._sessions.stopping():
            raise StoppedError("The run was told to stop, and its agents have not finished.")
        if self._sessions.unasked(REMINDER_S):
            logging.getLogger(__name__).warning(
                "%d episodes wait for agents, and none has asked for one for %.0f seconds. Start some: they "
                "take episodes by POST %s/sessions.", self._sessions.waiting, REMINDER_S, self._sessions.url)
        return super()._enough(wanted)

    def _over(self, key: Key) -> bool:
        given = self._held[key]
        broke = given.job.done and given.job.error is not None
        return given.session.outcome is not None or broke or self._late(given.session)

    def _late(self, session: AgentSession) -> bool:
        return not self._task.ends_itself and self._beyond(session.idle, session.outside)

    def _taken(self, key: Key) -> Answer:
        given = self._held[key]
        given.over = True
        seconds = time.monotonic() - given.start
        try:
            with named(given.prompt, self._task):
                return Answer(key, step=self._outcome(given), seconds=seconds)
        except EnvError as error:
            return Answer(key, status=error.status, message=str(error), final=error.final, seconds=seconds)

    def _outcome(self, given: _Given) -> Step:
        """What came of an episode that is over, in its end; raises what went wrong with it."""
        if given.session.steps:
            return given.session.steps[-1]
        outcome = given.session.outcome
        if outcome is None and given.job.error is None:
            outcome = EnvError(Status.TIMED_OUT, (
                f"the agent has not finished: it has made no call for {given.session.idle:.1f} seconds, and "
                f"spent {given.session.outside:.1f} between its calls {self._limits}."))
        raise outcome or given.job.error
