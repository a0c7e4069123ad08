"""AgentGym's environments as a task: its episodes run in servers that speak AgentGym's protocol, ours or its
own."""
import dataclasses
import random
import re
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from jaxrl_moe.envs.remote.connection import Connection
from jaxrl_moe.envs.remote.formats import FORMATS, MOST_ID, Format, Told
from jaxrl_moe.hosts.keys import key_of_setting
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.protocols import Env, Task
from jaxrl_moe.spelling import named, quoted
from jaxrl_moe.types import Action, EnvError, Messages, Status, Step, UserError

_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


@dataclasses.dataclass
class AgentGym(Task):
    """Episodes of AgentGym's environments in servers. A row says which by `id`, a number, or by AgentGym's
    `item_id`, such as "webshop_12".

    Attributes:
      env: of AgentGym.
      url: of the server, as http://127.0.0.1:8081; several with commas between, over which the seeds spread
        the episodes, so that those of one group go to one server.
      timeout: seconds that a call may take.
      max_turns: turns after which an episode is cut; 0: AgentGym's rounds of the environment.
      api_key_env: environment variable with the servers' API key; empty: they have none.
      deterministic: whether the same row and actions give the same steps; None: as AgentGym's environment
        does.

    Raises:
      UserError: a setting is out of range, a URL is none, or the variable is not set.
    """
    env: Literal["textcraft", "babyai", "alfworld", "sciworld", "webshop"]
    url: str
    timeout: float = 60.0
    max_turns: int = 0
    api_key_env: str = ""
    deterministic: bool | None = None
    lowest_reward: ClassVar[float] = 0.0
    concurrent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.timeout <= 0:
            raise UserError(f"timeout = {self.timeout:g} is out of range: it must be above 0.")
        if self.max_turns < 0:
            raise UserError(f"max_turns = {self.max_turns} is out of range: it must be at least 0.")
        self._format = FORMATS[self.env]
        self._urls = tuple(map(_checked_url, self.url.split(",")))
        self._key = key_of_setting("api_key_env", self.api_key_env, "the environment servers")
        self.max_turns = self.max_turns or self._format.rounds
        if self.deterministic is None:
            self.deterministic = self._format.deterministic
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._episodes: set[RemoteEpisode] = set()

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that names no episode; whether there is such an episode, its server
        knows."""
        self._number(row)

    def _number(self, row: Mapping[str, Any]) -> int:
        """The number of an episode that a row gives."""
        ids = [row[name] for name in ("id", "item_id") if row.get(name) is not None]
        numbers = [self._numbered(value) for value in ids]
        if not numbers or None in numbers or len(set(numbers)) > 1:
            raise UserError(f"A row of {self.env} needs the number of an episode in `id`, or "
                            f"\"{self.env}_N\" in `item_id`, but has "
                            f"{' and '.join(map(quoted, ids)) or 'neither'} (columns: {named(row)}).")
        return numbers[0]

    def _numbered(self, value: Any) -> int | None:
        if isinstance(value, str) and (item := re.fullmatch(rf"{self.env}_(0|[1-9][0-9]{{0,14}})", value)):
            return int(item[1])
        return value if type(value) is int and 0 <= value < MOST_ID else None

    def open(self, row: Mapping[str, Any], seed: int) -> "RemoteEpisode":
        """An episode of the row's number, at the server that the seed chooses; nothing is asked of it yet."""
        url = random.Random(seed).choice(self._urls)
        with self._lock:
            if self._connection is None:
                self._connection = Connection(self.timeout, self._key)
            begun = self._format.named(row, self._number(row))
            episode = RemoteEpisode(self._connection, self._format, url, begun, self._episodes.discard)
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


class RemoteEpisode(Env):
    """A session at a server.

    Args:
      connection: to call it by.
      form: of its environment.
      url: of the server.
      row: what /reset is sent of it.
      forget: called once the episode is closed.
    """

    def __init__(self, connection: Connection, form: Format, url: str, row: Mapping[str, Any],
                 forget: Callable[["RemoteEpisode"], None]):
        self._connection = connection
        self._format = form
        self._url = url
        self._row = row
        self._forget = forget
        self._session: int | None = None
        self._score = 0.0
        self._state = "new"

    def reset(self) -> Messages:
        """Creates a session and begins its episode.

        Raises:
          EnvError: the server cannot be reached, refuses, or does not answer as it should.
        """
        if self._state != "new":
            raise UserError("This episode has begun already: open another one.")
        self._state = "failed"
        self._session = self._call("/create", {}, Status.RESET_FAILED, self._format.session_of)
        told = self._call("/reset", self._named() | self._row, Status.RESET_FAILED, self._format.begun)
        self._score = told.score
        self._state = "running"
        return _messages(told.observation)

    def step(self, action: Action) -> Step:
        """Sends the command of an answer.

        Raises:
          EnvError: as reset() does.
          UserError: the episode has not begun, has ended or has failed.
        """
        if self._state != "running":
            raise UserError(f"This episode is {self._state}, and not running: open another one.")
        self._state = "failed"
        body = self._named() | {"action": self._format.command(action.text)}
        told = self._call("/step", body, Status.STEP_FAILED,
                          lambda answer, where: self._format.stepped(answer, self._score, where))
        self._score = told.score
        self._state = "ended" if told.done else "running"
        shown = () if told.done else _messages(told.observation)
        return Step(told.reward, told.done, _info(told), shown, told.achieved)

    def close(self) -> None:
        """Lets the server close the session, if it can; nobody waits for it."""
        if self._state == "closed":
            return
        self._state = "closed"
        self._forget(self)
        if self._session is not None:
            self._connection.post_later(f"{self._url}/close", self._named())

    def _named(self) -> dict[str, int]:
        return {self._format.session: self._session}

    def _call(self, path: str, body: Mapping[str, Any], failed: Status,
              read: Callable[[Any, str], Any]) -> Any:
        """What `read` makes of an answer."""
        url = self._url + path
        answer = self._connection.post(url, body, failed)
        try:
            return read(answer, f"The answer of {url}")
        except OutsideError as error:
            raise EnvError(Status.MALFORMED, str(error)) from error


def _checked_url(url: str) -> str:
    """The URL of a server without a slash at its end; raises UserError for what is none."""
    url = url.strip().rstrip("/")
    try:
        parts = urllib.parse.urlsplit(url)
        host = _HOST.fullmatch(parts.hostname or "")
        fits = parts.scheme in ("http", "https") and host and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, a bracket that does not close
        fits = False
    if not fits or parts.query or parts.fragment or parts.username is not None or not url.isprintable():
        raise UserError(f"url = {quoted(url)} is no address of a server: write http://host:port, without a "
                        "name or password, and several with commas between.")
    return url


def _messages(text: str) -> Messages:
    return ({"role": "user", "content": text},) if text else ()


def _info(told: Told) -> Mapping[str, float]:
    """As the server tells it; else an episode is correct where it ends with a reward."""
    return {"correct": float(told.done and told.reward > 0)} if told.info is None else told.info
