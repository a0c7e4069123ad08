"""Task apps as a task: a server elsewhere plays whole episodes, and calls the policy at the run's
endpoint."""
import contextlib
import dataclasses
import os
import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxrl_moe.envs.bounds import check_above_zero, check_least
from jaxrl_moe.envs.remote.app_episode import TaskAppEpisode
from jaxrl_moe.envs.remote.app_judge import check_judge
from jaxrl_moe.envs.remote.app_server import AppServer
from jaxrl_moe.hosts.keys import key_of_setting
from jaxrl_moe.judges.client import JudgeClient
from jaxrl_moe.judges.records import Verdict, Work
from jaxrl_moe.outgoing.urls import checked_url
from jaxrl_moe.outside import Fields
from jaxrl_moe.protocols import Task
from jaxrl_moe.types import UserError

_FORM = "http://host:port, without a name or password"


@dataclasses.dataclass
class TaskApp(Task):
    """Episodes that a task app plays: GET /health, /info, POST /rollout. A row says which by its `seed`, as
    those of data.seeds do.

    The episode's reward, by `reward`: "return", the sum of its steps' rewards; "outcome", the app's
    metrics.outcome_score; "judge", what the judge at judge_url gives for the whole; empty: the judge's where
    there is a judge_url, else the return. Its info has "event" (metrics.events_score, or the mean of the
    judge's rewards of turns), "outcome" (metrics.outcome_score, or the judge's reward) for
    algorithm.reward_blend, and the numbers of metrics.details.

    Attributes:
      url: of the task app, as http://127.0.0.1:8101.
      env_name, policy_name: as the app calls them; env_name empty: the id of the task that /info tells.
      max_turns: turns that the app is asked for at most; a session lets it make two calls at least, as of
        one that it makes again.
      reward: see above.
      by_calls: whether each step of the app's is a call of the policy, which it rewards, for
        algorithm.returns and step_rewards; else the episode is rewarded as a whole.
      timeout: seconds that a rollout may take, judges that the app asks included; a day, as people judge by
        day: of a rollout that ends before them the work stays with them, and the next try is another one.
      patience: seconds that an app which cannot be reached is waited for, as one that is started anew.
      api_key_env: environment variable with the app's API key; where it is not set, none is sent.
      max_concurrent_rollouts: rollouts at a time; where the run asks the judge, works that are out to it,
        and generation goes on meanwhile; 0: as many as the run draws.
      model: that the app is to name in its calls; empty: as the endpoint calls it.
      run: what the training run is called, for the app and for judges.
      judge_url: of a judge that the run asks itself; empty: the app judges.
      judge_key_env: environment variable with the judge's API key; empty: it has none.
      judge_provider, judge_model, rubric_id: what the judge is asked for; empty: as it is set up.
      judge_mode: each work by itself, or those of a group compared.
      judge_turns: whether it shall reward each turn too.
      group_size: works of a group, for a judge that compares: rollout.group_size.
      judge_timeout: seconds that a model may take to judge.
      judge_deadline: seconds that people may take; 0: as long as they like.
      on_deadline: what becomes of a work that they have not judged by then: it is waited for, a model judges
        it, or its group is dropped.

    Raises:
      UserError: a setting is out of range or has no effect, a URL is none, or judge_key_env is not set.
    """
    url: str
    env_name: str = ""
    policy_name: str = ""
    max_turns: int = 10
    reward: Literal["", "return", "outcome", "judge"] = ""
    by_calls: bool = False
    timeout: float = 86400.0
    patience: float = 60.0
    api_key_env: str = "ENVIRONMENT_API_KEY"
    max_concurrent_rollouts: int = 0
    model: str = ""
    run: str = ""
    judge_url: str = ""
    judge_key_env: str = ""
    judge_provider: str = ""
    judge_model: str = ""
    rubric_id: str = ""
    judge_mode: Literal["rubric", "pairwise", "ranking"] = "rubric"
    judge_turns: bool = False
    group_size: int = 1
    judge_timeout: float = 45.0
    judge_deadline: float = 0.0
    on_deadline: Literal["wait", "model", "drop"] = "wait"
    concurrent: ClassVar[bool] = True
    by_agents: ClassVar[bool] = True
    ends_itself: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_least(self, max_turns=1, patience=0, max_concurrent_rollouts=0, group_size=1, judge_deadline=0)
        check_above_zero(self, "timeout", "judge_timeout")
        self.url = checked_url(self.url, "url", _FORM)
        self.compared = 0 if self.judge_mode == "rubric" else self.group_size
        self.asked_turns = self.max_turns
        self.max_turns = max(self.max_turns, 2)  # as a task of one grades completions
        self.judge_url = self.judge_url and checked_url(self.judge_url, "judge_url", _FORM)
        check_judge(self)
        self._key = _key(self.api_key_env)
        self._judge_key = key_of_setting("judge_key_env", self.judge_key_env, "the judge")
        self.reward = self.reward or ("judge" if self.judge_url else "return")
        count = self.max_concurrent_rollouts
        self._room: Any = threading.Semaphore(count) if count else contextlib.nullcontext()
        self._door = threading.Lock()
        self._server: AppServer | None = None
        self._judge: JudgeClient | None = None
        self._closed = False

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that names no instance; whether there is such a one, the app knows."""
        if "seed" not in Fields(row, "the row"):
            raise UserError("The row has no `seed`, the number of an instance of the task app: add one, or "
                            "set data.seeds in place of data.path.")
        Fields(row, "the row").integer("seed")

    def ready(self) -> None:
        """Asks the app how it is, once, and the judge that the run asks.

        Raises:
          UserError: one is not there, not healthy, refuses the key, or has not what is asked of it, such as
            max_turns.
        """
        self.server()
        if self.judge_url:
            self._asked_judge().meet()

    def server(self) -> AppServer:
        """The app, which was ready when it was first asked; raises UserError as ready() does."""
        with self._door:
            if self._closed:
                raise UserError("The task is closed: it plays no episodes any more.")
            if self._server is None:
                made = AppServer(self.url, self._key, self.api_key_env, self.timeout, self.patience)
                try:
                    self.env_name = made.meet(self.env_name, self.asked_turns)
                except BaseException:
                    made.close()
                    raise
                self._server = made
            return self._server

    def open(self, row: Mapping[str, Any], seed: int) -> TaskAppEpisode:
        """An episode of the row's instance; nothing is asked of the app yet."""
        return TaskAppEpisode(self, row, f"{self.run}/{seed}" if self.group_size > 1 else "")

    @contextlib.contextmanager
    def room(self, judging: bool):
        """Within it a rollout, or where the run asks the judge a work that is out to it, counts as one of
        max_concurrent_rollouts."""
        with self._room if judging == bool(self.judge_url) else contextlib.nullcontext():
            yield

    def judged(self, work: Work) -> Verdict:
        """What the judge says of a work; raises EnvError where it says nothing."""
        return self._asked_judge().score(work, policy_name=self.policy_name, task_app_id=self.env_name,
                                         turns=self.judge_turns, mode=self.judge_mode, run=self.run)

    def _asked_judge(self) -> JudgeClient:
        with self._door:
            if self._judge is None:
                self._judge = JudgeClient(
                    self.judge_url, api_key=self._judge_key, timeout=self.judge_timeout,
                    patience=self.patience, deadline=self.judge_deadline, on_deadline=self.on_deadline,
                    provider=self.judge_provider, model=self.judge_model, rubric_id=self.rubric_id)
            return self._judge

    def close(self) -> None:
        """Ends the calls of open episodes, and the connections."""
        with self._door:
            held = [each for each in (self._server, self._judge) if each is not None]
            self._closed = True
            self._server = None
            self._judge = None
        for each in held:
            each.close()


def _key(variable: str) -> str:
    """The API key in an environment variable, if that is set."""
    there = os.environ.get(variable, "").strip()
    return key_of_setting("api_key_env", variable, "the task app") if there else ""
