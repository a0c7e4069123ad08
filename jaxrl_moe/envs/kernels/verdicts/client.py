"""The client of an evaluation server, ours or another that answers POST /eval and says what its verdicts rest
on."""
import threading
import time
from typing import Any

from jaxrl_moe.envs.kernels.verdicts.judge import Trials
from jaxrl_moe.envs.kernels.verdicts.told import heard
from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Verdict
from jaxrl_moe.outgoing.calls import StatusError
from jaxrl_moe.outgoing.connection import Connection
from jaxrl_moe.outgoing.urls import checked_url
from jaxrl_moe.outside import OutsideError, as_object, parse
from jaxrl_moe.spelling import cut, escaped
from jaxrl_moe.types import EnvError, Status, UserError

EVAL = "/eval"
SECONDS = 900.0      # that a verdict may take, with the time in the server's queue
PATIENCE = 60.0      # seconds that a server is waited for which cannot be reached
AGAIN_SECONDS = 1.0  # before a server that had no room is asked again
FULL = 429
NO_GPU = "no_gpu"    # the code of a refusal to time
_PASSING = (500, 502, 503)  # statuses after which another try of the episode may do


class RemoteJudge:
    """A Judge.

    Args:
      base_url: of the server, without the path of the call.
      key: its API key; empty: it has none.
      seconds: that a verdict may take, with the time in the server's queue.
      trials: how often a candidate is called; None: as the problem says.
      timed: whether it is timed, which needs a GPU; None: where the server has one.
      patience: seconds that a server which cannot be reached is waited for. Nothing but a call of which the
        server has taken nothing is made again.

    Raises:
      UserError: the URL is none.
    """

    def __init__(self, base_url: str, key: str = "", seconds: float = SECONDS, *,
                 trials: Trials | None = None, timed: bool | None = None, patience: float = PATIENCE):
        self._url = checked_url(base_url, "the evaluation server", "http://host:port")
        self._seconds = seconds
        self._has_key = bool(key)
        self._trials = trials
        self._asked: dict[str, Any] = {} if timed is None else {"measure_performance": timed}
        self._over = threading.Event()
        self._connection = Connection(seconds, patience, key)

    def meet(self) -> None:
        """Asks the server how it is, once.

        Raises:
          UserError: it cannot be reached, refuses the key or is none such; or candidates are to be timed,
            and it says that it has no GPU for that.
        """
        try:
            told = self._connection.get(f"{self._url}/backend_info", Status.UNREACHABLE)
        except StatusError as error:
            raise self._refused(error) from error
        except EnvError as error:
            raise UserError(f"The evaluation server is not ready: {error} Start it by scripts/serve.py "
                            "kernels, or correct its URL.") from error
        if not isinstance(told, dict) or "basis" not in told:
            raise UserError(f"{self._url} is no evaluation server that says what its verdicts rest on: give "
                            "the URL of scripts/serve.py kernels.")
        if self._asked.get("measure_performance") and told.get("timed") is False:
            raise UserError(f"{self._url} has no GPU, and candidates are to be timed: start it with --gpus, "
                            "or ask for no timing (measure=false).")

    def verdict(self, problem: Judged, source: str, seed: int) -> Verdict:
        """As Judge."""
        trials = self._trials or Trials(problem.trials, problem.timed)
        body = {"original_model_src": problem.source, "custom_model_src": source, "seed_num": seed,
                "num_correct_trials": trials.correct, **self._asked}
        body |= {"num_perf_trials": trials.timed} if trials.timed else {}
        body |= {"sizes": [dict(each) for each in problem.sizes]} if problem.sizes else {}
        body |= {"torch_operators": True} if problem.torch_operators else {}
        try:
            return self._heard(self._answered(body))
        except StatusError as error:
            if error.code == 504:
                return self._late(error)
            if error.code == FULL or error.code in _PASSING and _code(error) != NO_GPU:
                raise
            raise self._refused(error) from error

    def close(self) -> None:
        """Ends all calls, which raise EnvError where somebody still waits for them."""
        self._over.set()
        self._connection.close()

    def _answered(self, body: dict[str, Any]) -> Any:
        """The answer of a server that has room, which it is asked for again as long as the time lasts."""
        end = time.monotonic() + self._seconds
        while True:
            try:
                return self._connection.post(f"{self._url}{EVAL}", body, Status.STEP_FAILED)
            except StatusError as error:
                if error.code != FULL or time.monotonic() + AGAIN_SECONDS > end:
                    raise
            if self._over.wait(AGAIN_SECONDS):
                raise EnvError(Status.UNREACHABLE, f"{self._url} was given up: its client was closed.")

    def _heard(self, answer: Any) -> Verdict:
        try:
            return heard(answer, f"the answer of {self._url}")
        except OutsideError as error:
            raise EnvError(Status.MALFORMED, str(error)) from error

    def _late(self, error: StatusError) -> Verdict:
        """Of a candidate that took too long. A server's answer is an object; a proxy's, that lost patience
        with the server, is a page, and says nothing of the candidate."""
        try:
            told = as_object(parse(error.body, "it"), "it")
        except OutsideError:
            raise error from None
        if "metadata" in told:
            return self._heard(told)
        said = told.get("detail") or told.get("error") or "The server gave up on it."
        return Verdict(Basis.INTERPRETER, fault=Fault.TIMED_OUT, message=cut(escaped(str(said))))

    def _refused(self, error: StatusError) -> UserError:
        """What a call that would be refused again says."""
        if error.refuses_key and not self._has_key:
            return UserError(f"The evaluation server needs an API key, and none was given: {error}")
        if error.refuses_key:
            return UserError(f"The evaluation server refuses the API key: {error}")
        return UserError(f"The evaluation server refuses the call: {error}")


def _code(error: StatusError) -> str:
    """The code that our servers' refusals have; empty where there is none."""
    try:
        told = parse(error.body, "it")
    except OutsideError:
        return ""
    inner = told.get("error") if isinstance(told, dict) else None
    return str(inner.get("code")) if isinstance(inner, dict) else ""
