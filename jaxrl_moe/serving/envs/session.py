"""One session: the episodes that a client plays, one after the other."""
import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxrl_moe.foreign_errors import crash
from jaxrl_moe.protocols import Env, Task
from jaxrl_moe.rollout.grades import Unfit, checked_env, checked_messages, checked_step
from jaxrl_moe.serving.envs.tells import Tells, Untold, read
from jaxrl_moe.types import Action, Messages, Step, UserError


class Shown(NamedTuple):
    """What a session's last call showed; score: the sum of its rewards so far; info, achieved, notes and
    truncated as in Step, None where there is nothing to tell; told: what the wire format has read off the
    Env."""
    observation: str
    reward: float = 0.0
    done: bool = False
    score: float = 0.0
    info: Mapping[str, float] | None = None
    achieved: tuple[str, ...] | None = None
    notes: Mapping[str, str] | None = None
    truncated: bool | None = None
    told: Mapping[str, Any] = MappingProxyType({})


@dataclasses.dataclass
class Session:
    """A client's. One thread uses it at a time.

    Attributes:
      number: that the client knows it by.
      used: when it was last used, by the clock of the sessions.
      tells: what is read off an Env after each call.
      busy: a call is at work.
      over: it was ended, perhaps while a call was at work.
      own: the server plays it itself, and ends it: it does not expire, however long its policy thinks.
    """
    number: int
    used: float
    tells: Tells = dataclasses.field(default_factory=dict)
    busy: bool = False
    over: bool = False
    own: bool = False
    _env: Env | None = None
    _shown: Shown = Shown("")

    def begin(self, task: Task, row: Mapping[str, Any]) -> Shown:
        """Begins an episode, once the row has turned out to name one.

        Raises:
          UserError: it names none, the task is played by calls of functions, or the environment fails.
        """
        task.check_row(row, row.get("id", 0))
        if task.tools(row):
            raise UserError("This environment's commands are given by calling functions, which AgentGym's "
                            "protocol does not send: serve it with answers='react', or play it by POST "
                            "/rollouts.")
        with self._told("end the episode before"):
            self.close()
        with self._told("begin"):
            self._env = checked_env(task.open(row, 0))
            text = text_of(checked_messages(self._env.reset()))
            self._shown = Shown(text, told=read(self._env, self.tells))
        return self._shown

    def step(self, text: str) -> Shown:
        """Takes a turn.

        Raises:
          UserError: the episode has not begun or has ended, or the environment fails, which ends it.
        """
        before = self.look()
        if before.done:
            raise UserError(f"The episode of session {self.number} has ended: reset the session, or close "
                            "it.")
        with self._told("take the action"):
            step = checked_step(self._env.step(Action(text, 0, False)))
            self._shown = Shown(text_of(step.observation), step.reward, step.done, before.score + step.reward,
                                step.info, step.achieved, step.notes or None, step.truncated or None,
                                read(self._env, self.tells))
        return self._shown

    def brief(self, task: Task, row: Mapping[str, Any]) -> tuple[str, Messages]:
        """(instructions, tools) for a policy that plays the row's episode; raises UserError as begin()
        does."""
        with self._told("take the row"):
            task.check_row(row, 0)
            return task.instructions(row), tuple(task.tools(row))

    def open(self, task: Task, row: Mapping[str, Any], seed: int = 0) -> Messages:
        """As begin(), for whoever reads messages of any role."""
        with self._told("begin"):
            self._env = checked_env(task.open(row, seed))
            return checked_messages(self._env.reset())

    def act(self, action: Action) -> Step:
        """As step(), for whoever reads messages of any role and keeps count itself."""
        with self._told("take the action"):
            return checked_step(self._env.step(action))

    def look(self) -> Shown:
        """What the last call showed, again. Raises UserError where there is no episode."""
        if self._env is None:
            raise UserError(f"Session {self.number} has no episode: reset it first.")
        return self._shown

    def close(self) -> None:
        """Closes the environment, if there is one."""
        env = self._env
        self._env = None
        if env is not None:
            env.close()

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Whatever the environment raises ends the episode, and is told in a sentence; the log has the
        traceback, where it is no refusal."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, UserError):
                logging.getLogger(__name__).error("An environment failed", exc_info=error)
            self.close()
            raise UserError(f"The environment could not {what}: {_said(error)}") from error


def _said(error: Exception) -> str:
    if isinstance(error, Unfit | Untold):
        return f"it {error}"
    return str(error) if isinstance(error, UserError) else crash(error)


def text_of(messages: Messages) -> str:
    """The text that messages of an environment show; "" for none.

    Raises:
      ValueError: they are more than one text of the user's, which AgentGym's protocol cannot tell.
    """
    if not messages:
        return ""
    message, *others = messages
    if others or message.keys() != {"role", "content"} or message["role"] != "user" or not isinstance(
            message["content"], str):
        roles = ", ".join(str(each.get("role")) for each in messages)
        raise ValueError(f"it showed messages of {roles}, and AgentGym's protocol tells one text of the user")
    return message["content"]
