"""An episode that a worker plays."""
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.envs.adapters.forms import Form
from jaxrl_moe.envs.lifecycle import Lifecycle
from jaxrl_moe.envs.package_workers.pool import Pool, Seat
from jaxrl_moe.envs.text.answers import BadAction
from jaxrl_moe.outside import Fields, OutsideError
from jaxrl_moe.protocols import Env
from jaxrl_moe.types import Action, EnvError, Messages, Status, Step


class AdapterEpisode(Env):
    """One episode, from its worker's reset to its end.

    Args:
      pool: of workers.
      chosen: what the worker's `reset` is told of the episode.
      form: how the policy is heard and shown.
      seconds: that a call may take.
    """

    def __init__(self, pool: Pool, chosen: Mapping[str, Any], form: Form, seconds: float):
        self._pool = pool
        self._chosen = chosen
        self._form = form
        self._seconds = seconds
        self._seat: Seat | None = None
        self._life = Lifecycle()
        self._turns = 0
        self._valid = 0
        self._told: Mapping[str, float] = {}

    def reset(self) -> Messages:
        """Begins at a worker.

        Raises:
          UserError: the package refuses the row or the settings, or the episode has begun before.
          EnvError: the package failed, or did not answer in time.
        """
        self._life.begin()
        self._seat = self._pool.take()
        told = self._called("reset", self._chosen, Status.RESET_FAILED)
        return self._form.shown(_texts(told))

    def step(self, action: Action) -> Step:
        """Tells the worker what the policy did. An answer that is no action changes nothing. info: the
        package's, "correct", and "valid", the share of the turns up to now that were actions.

        Raises:
          EnvError: as reset() does.
        """
        self._life.check_running()
        self._turns += 1
        try:
            said = self._form.said(action)
        except BadAction as error:
            return Step(0.0, False, self._info(self._told, False), self._form.shown([str(error)], action))
        told = self._called("step", said, Status.STEP_FAILED)
        try:
            return self._read(told, action)
        except OutsideError as error:
            raise EnvError(Status.MALFORMED, str(error)) from error

    def _read(self, told: Fields, action: Action) -> Step:
        told.only(("observation", "reward", "done", "truncated", "valid", "info", "notes"))
        done = told.boolean("done")
        info = self._info(_numbers(told), told.boolean("valid", True))
        texts = _texts(told)
        if done:
            self._life.end()
        return Step(told.number("reward"), done, info, () if done else self._form.shown(texts, action),
                    notes=_notes(told), truncated=told.boolean("truncated", False))

    def _info(self, given: Mapping[str, float], valid: bool) -> Mapping[str, float]:
        self._told = given
        self._valid += valid
        return {"correct": 0.0, **given, "valid": self._valid / self._turns}

    def _called(self, name: str, arguments: Mapping[str, Any], failed: Status) -> Fields:
        """Its answer; after a failure the episode is over."""
        try:
            return self._seat.call(name, arguments, self._seconds, failed)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets the worker close it."""
        self._life.end()
        seat = self._seat
        if seat is not None:
            self._pool.leave(seat)


def _texts(told: Fields) -> Sequence[str]:
    """What is shown, as tokenizers can read it: without halves of surrogate pairs."""
    texts = told.strings("observation", [])
    return [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]


def _numbers(told: Fields) -> dict[str, float]:
    info = told.object("info", None)
    return {} if info is None else {name: info.number(name) for name in info.values}


def _notes(told: Fields) -> dict[str, str]:
    notes = told.object("notes", None)
    return {} if notes is None else {name: notes.string(name) for name in notes.values}
