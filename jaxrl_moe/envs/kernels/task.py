"""Triton kernels as a task: a row holds a reference in PyTorch, and its episode is code in several turns."""
import dataclasses
import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxrl_moe.envs.bounds import check_least
from jaxrl_moe.envs.kernels.code import last_code
from jaxrl_moe.envs.kernels.episode import KernelEpisode, NoCodeError, Rules
from jaxrl_moe.envs.kernels.feedback import AGAIN
from jaxrl_moe.envs.kernels.instructions import SYSTEM, observation, user_message
from jaxrl_moe.envs.kernels.judging import JudgeSettings, make_judge, ready
from jaxrl_moe.envs.kernels.reward import MOST
from jaxrl_moe.envs.kernels.rows_read import problem_of
from jaxrl_moe.envs.kernels.verdicts.judge import Judge
from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.hosts.keys import key_of_setting
from jaxrl_moe.outgoing.urls import checked_url
from jaxrl_moe.protocols import Task
from jaxrl_moe.types import Messages, UserError


@dataclasses.dataclass
class TritonKernels(Task):
    """Each turn is worth 0, 0.1 where its code compiles, 0.3 where it is correct, and up to 2 more for speed
    where it was timed. How turns are discounted is algorithm.returns (trajectory or turns) and
    algorithm.turn_gamma.

    A row has the reference's source in `label`; sizes that it is judged at stand there (SMALL, VARIANTS) or
    in `extra_info.sizes`.

    Attributes:
      url: of an evaluation server, as http://127.0.0.1:18188; empty: candidates are judged in sandboxes of
        this machine, by Triton's interpreter.
      api_key_env: environment variable with the server's API key; empty: it has none.
      timeout: seconds that a candidate may take in these; of a server, that a verdict may take with its time
        in the queue; 0: 60 and 900.
      workers: sandboxes that judge side by side, where there is no url.
      python: interpreter that has torch and Triton, of these sandboxes; empty: this one.
      max_turns: of an episode.
      good_speedup: over the faster of the reference's times, at which an episode ends: of 2, a reward of 1.3.
        A correct kernel that is not timed ends it too, as nothing better can be seen.
      repeated_failures: that are the same, one after the other, end an episode; 0: never.
      feedback_chars: of an error that the next turn is shown, from its beginning and its end.
      trials: fresh inputs that a candidate must be right for.
      measure: whether candidates are timed, by a server that has a GPU; else speed is worth nothing.
      timed_trials: calls that are timed.
      torch_operators: whether forward may compute by operators of PyTorch beside its kernels; the
        instructions speak of "refused".
      seed: of weights and inputs; the same for all, so that the same code has the same verdict.

    Raises:
      UserError: a setting is out of range, the url is none, or the variable is not set.
    """
    url: str = ""
    api_key_env: str = ""
    timeout: float = 0.0
    workers: int = 1
    python: str = ""
    max_turns: int = 3
    good_speedup: float = 2.0
    repeated_failures: int = 2
    feedback_chars: int = 2000
    trials: int = 5
    measure: bool = False
    timed_trials: int = 100
    torch_operators: Literal["refused", "allowed"] = "refused"
    seed: int = 42
    lowest_reward: ClassVar[float] = 0.0
    concurrent: ClassVar[bool] = True
    again: ClassVar[str] = AGAIN  # what is asked for after an attempt

    def __post_init__(self) -> None:
        check_least(self, timeout=0, workers=1, max_turns=1, good_speedup=1, repeated_failures=0,
                    feedback_chars=40, trials=1, timed_trials=1, seed=0)
        if self.measure and not self.url:
            raise UserError("measure = true needs the url of an evaluation server that has a GPU: without "
                            "one, candidates are judged by Triton's interpreter, which has no speed.")
        if self.url:
            self.url = checked_url(self.url, "url", "http://host:port, without a name or password")
        self._key = key_of_setting("api_key_env", self.api_key_env, "the evaluation server")
        # Every turn may be correct and slow: what ends an episode early is a good turn, not its sum.
        self.score_range = (0.0, self.max_turns * MOST)
        self._rules = Rules(self.max_turns, self.good_speedup, self.repeated_failures, self.feedback_chars,
                            self.again, self.seed)
        self._lock = threading.Lock()
        self._judge: Judge | None = None

    def ready(self) -> None:
        """Raises UserError where candidates cannot be judged: no server answers, torch or Triton is not
        installed, or nothing can be shut in."""
        ready(self._settings())

    def instructions(self, row: Mapping[str, Any]) -> str:
        """The task and the form of an answer, with an example; the same for every row."""
        return SYSTEM

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row without the source of a problem, or with sizes that are not its own."""
        problem_of(row)

    def open(self, row: Mapping[str, Any], seed: int) -> KernelEpisode:
        """An episode of the row's problem; how it begins follows from the row, and nothing from the seed."""
        problem = problem_of(row)
        opening: Messages = () if row.get("prompt") else observation(user_message(problem.shown))
        judged = Judged(problem.source, problem.sizes, self.trials, self.torch_operators == "allowed",
                        self.timed_trials if self.measure else 0)
        return KernelEpisode(judged, opening, self.source_of, self.judge(), self._rules)

    def source_of(self, text: str) -> str:
        """The source of ModelNew that an answer gives: its last block of code after its thoughts.

        Raises:
          NoCodeError: it gives none.
        """
        source = last_code(text)
        if source is None:
            raise NoCodeError("there is no whole block of Python code between ``` fences after the thoughts.")
        return source

    def judge(self) -> Judge:
        """Who judges; made when it is first asked for."""
        with self._lock:
            if self._judge is None:
                self._judge = make_judge(self._settings())
            return self._judge

    def close(self) -> None:
        """Ends who judges; a second time it does nothing."""
        with self._lock:
            judge, self._judge = self._judge, None
        if judge is not None:
            judge.close()

    def _settings(self) -> JudgeSettings:
        return JudgeSettings(self.url, self._key, self.timeout, self.workers, self.python, self.trials,
                             self.timed_trials if self.measure else 0)
