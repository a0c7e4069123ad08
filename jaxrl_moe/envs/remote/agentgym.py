"""AgentGym's environments as a task: its episodes run in servers that speak AgentGym's protocol, ours or its
own."""
import dataclasses
import random
import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxrl_moe.envs.bounds import check_above_zero, check_least
from jaxrl_moe.envs.episode_ids import episode_number
from jaxrl_moe.envs.remote.episode import RemoteEpisode
from jaxrl_moe.envs.remote.formats import FORMATS, MOST_ID
from jaxrl_moe.envs.remote.words import words
from jaxrl_moe.envs.text.functions import Answers, CommandForm
from jaxrl_moe.hosts.keys import key_of_setting
from jaxrl_moe.outgoing.connection import Connection
from jaxrl_moe.outgoing.urls import checked_url
from jaxrl_moe.protocols import Task


@dataclasses.dataclass
class AgentGym(Task):
    """Episodes of AgentGym's environments in servers. A row says which by `id`, a number, or by AgentGym's
    `item_id`, such as "webshop_12".

    Attributes:
      env: of AgentGym.
      url: of the server, as http://127.0.0.1:8081; several with commas between, over which the seeds spread
        the episodes, so that those of one group go to one server.
      timeout: seconds that a call may take.
      patience: seconds that a server which cannot be reached is waited for, as one that is started anew.
      max_turns: turns after which an episode is cut; 0: AgentGym's rounds of the environment.
      api_key_env: environment variable with the servers' API key; empty: they have none.
      deterministic: whether the same row and actions give the same steps; None: as AgentGym's environment
        does.
      answers: commands are given in words ("react") or by calling functions, which are sent as the words
        that they stand for.

    Raises:
      UserError: a setting is out of range, a URL is none, or the variable is not set.
    """
    env: Literal["textcraft", "babyai", "alfworld", "sciworld", "webshop"]
    url: str
    timeout: float = 60.0
    patience: float = 60.0
    max_turns: int = 0
    api_key_env: str = ""
    deterministic: bool | None = None
    answers: Answers = "react"
    lowest_reward: ClassVar[float] = 0.0
    concurrent: ClassVar[bool] = True
    score_range: ClassVar[tuple[float, float]] = (0.0, 1.0)  # sciworld's scores are told as shares of 100

    def __post_init__(self) -> None:
        check_above_zero(self, "timeout")
        check_least(self, patience=0, max_turns=0)
        self._format = FORMATS[self.env]
        self._urls = tuple(checked_url(url, "url", "http://host:port, without a name or password, and "
                                       "several with commas between") for url in self.url.split(","))
        self._key = key_of_setting("api_key_env", self.api_key_env, "the environment servers")
        self.max_turns = self.max_turns or self._format.rounds
        if self.deterministic is None:
            self.deterministic = self._format.deterministic
        functions = words(self.env).functions if self.answers == "functions" else ()
        self._form = CommandForm(self._format.command, functions)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._episodes: set[RemoteEpisode] = set()

    def tools(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """The environment's commands as functions, where answers are calls of these."""
        return self._form.tools

    def instructions(self, row: Mapping[str, Any]) -> str:
        """What the environment's commands are, and the form of an answer; the same for every row."""
        own = words(self.env)
        return own.calling if self._form.functions else own.instructions

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that names no episode; whether there is such an episode, its server
        knows."""
        episode_number(row, self.env, MOST_ID)

    def open(self, row: Mapping[str, Any], seed: int) -> RemoteEpisode:
        """An episode of the row's number, at the server that the seed chooses; nothing is asked of it yet."""
        url = random.Random(seed).choice(self._urls)
        with self._lock:
            if self._connection is None:
                self._connection = Connection(self.timeout, self.patience, self._key)
            begun = self._format.named(row, episode_number(row, self.env, MOST_ID))
            episode = RemoteEpisode(self._connection, self._format, self._form, url, begun,
                                    self._episodes.discard)
            self._episodes.add(episode)
        return episode

    def close(self) -> None:
        """Closes the sessions of open episodes, as far as their servers can, and the connections."""
        with self._lock:
            connection = self._connection
            self._connection = None
        for episode in list(self._episodes):
            episode.close()
        if connection is not None:
            connection.close()
