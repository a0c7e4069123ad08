"""POST /rollouts as a task: an environment server plays whole episodes, and calls the policy at the run's
endpoint."""
import contextlib
import dataclasses
import random
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.envs.bounds import check_above_zero, check_least
from jaxrl_moe.envs.episode_ids import episode_number
from jaxrl_moe.envs.remote.formats import MOST_ID
from jaxrl_moe.envs.remote.rollouts_episode import RolloutsEpisode
from jaxrl_moe.envs.remote.rollouts_server import RolloutsServer
from jaxrl_moe.hosts.keys import key_of_setting
from jaxrl_moe.outgoing.urls import checked_url
from jaxrl_moe.protocols import Task
from jaxrl_moe.types import UserError


@dataclasses.dataclass
class RemoteRollouts(Task):
    """Episodes that environment servers play, as of POST /rollouts {env, model, base_url, ids, max_round}. A
    row says which by `id`, a number, or by AgentGym's `item_id`, such as "textcraft_12".

    Attributes:
      env: that the servers serve, as they call it.
      url: of the server, as http://127.0.0.1:8081; several with commas between, over which the seeds spread
        the episodes, so that those of one group go to one server.
      max_round: turns that a server is asked for at most.
      by_calls: whether each turn has its own reward, as the answers' `experiences` tell, for
        algorithm.returns and step_rewards; else the episode is rewarded as a whole.
      timeout: seconds that an episode may take.
      patience: seconds that a server which cannot be reached is waited for, as one that is started anew.
      api_key_env: environment variable with the servers' API key; empty: they have none.
      max_concurrent_rollouts: episodes that are out to the servers at a time; 0: as many as the run draws.
      model: that the servers are to name in their calls; empty: as the endpoint calls it.

    Raises:
      UserError: a setting is out of range, a URL is none, or the variable is not set.
    """
    url: str
    env: str
    max_round: int = 20
    by_calls: bool = True
    timeout: float = 3600.0
    patience: float = 60.0
    api_key_env: str = ""
    max_concurrent_rollouts: int = 0
    model: str = ""
    concurrent: ClassVar[bool] = True
    by_agents: ClassVar[bool] = True
    ends_itself: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_least(self, max_round=1, patience=0, max_concurrent_rollouts=0)
        check_above_zero(self, "timeout")
        if not self.env.strip():
            raise UserError("env is empty: name the environment that the servers serve, such as textcraft.")
        self.max_turns = max(self.max_round, 2)  # as a task of one grades completions
        self._urls = tuple(checked_url(url, "url", "http://host:port, without a name or password, and "
                                       "several with commas between") for url in self.url.split(","))
        self._key = key_of_setting("api_key_env", self.api_key_env, "the environment servers")
        count = self.max_concurrent_rollouts
        self.room: Any = threading.Semaphore(count) if count else contextlib.nullcontext()
        self._door = threading.Lock()
        self._server: RolloutsServer | None = None
        self._closed = False

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that names no episode; whether there is such an episode, its server
        knows."""
        episode_number(row, self.env, MOST_ID)

    def ready(self) -> None:
        """Asks each server how it is.

        Raises:
          UserError: one is not there, or serves another environment.
        """
        for url in self._urls:
            self.server().meet(url, self.env)

    def server(self) -> RolloutsServer:
        """The calls of the servers; raises UserError once the task is closed."""
        with self._door:
            if self._closed:
                raise UserError("The task is closed: open another one.")
            if self._server is None:
                self._server = RolloutsServer(self._key, self.api_key_env, self.timeout, self.patience)
            return self._server

    def open(self, row: Mapping[str, Any], seed: int) -> RolloutsEpisode:
        """An episode of the row's number, for the server that the seed chooses; nothing is asked of it
        yet."""
        url = random.Random(seed).choice(self._urls)
        return RolloutsEpisode(self, url, episode_number(row, self.env, MOST_ID))

    def close(self) -> None:
        """Ends the calls of open episodes, and the connections."""
        with self._door:
            server = self._server
            self._closed = True
            self._server = None
        if server is not None:
            server.close()
