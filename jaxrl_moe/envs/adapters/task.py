"""What the adapters' tasks share: their workers, from the first episode to the end."""
import abc
import json
import pathlib
import shlex
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.envs.adapters.episode import AdapterEpisode
from jaxrl_moe.envs.adapters.forms import Form
from jaxrl_moe.envs.bounds import check_above_zero, check_least, check_range
from jaxrl_moe.envs.package_workers.launch import Launch, environment, python_of
from jaxrl_moe.envs.package_workers.pool import Pool
from jaxrl_moe.outgoing.urls import checked_url
from jaxrl_moe.outside import Fields, as_object, parse
from jaxrl_moe.protocols import Task
from jaxrl_moe.spelling import named
from jaxrl_moe.types import UserError

WORKERS = pathlib.Path(__file__).parent / "workers"


class AdapterTask(Task):
    """A task whose episodes are played by workers of another package. A subclass is a dataclass with at least
    these settings.

    Attributes:
      workers: processes at most; episodes are spread over them, and one that is killed or hangs is replaced.
      timeout: seconds that the package may take for a turn, or for the beginning of an episode.
      python: interpreter of the environment that has the package; empty: where `make env-adapters` puts it.
      variables: environment variables, with commas between, that the workers see beside those that hold no
        secrets.
      package: its name.
      place: of its environment, as in .venv-NAME; empty: this process's own has it.
      worker: the file that a worker runs.
      install: the command that installs the package.
    """
    workers: int
    timeout: float
    python: str
    variables: str
    concurrent: ClassVar[bool] = True
    package: ClassVar[str]
    place: ClassVar[str]
    worker: ClassVar[pathlib.Path]
    install: ClassVar[str]
    _BEGINNING: ClassVar[float] = 180.0  # least seconds for the imports of a package, and what it sets up

    def __post_init__(self) -> None:
        check_range(self, workers=(1, 64))
        check_least(self, max_turns=1)
        check_above_zero(self, "timeout")
        self._lock = threading.Lock()
        self._pool: Pool | None = None

    def bound_rewards(self, lowest: float | None, highest: float | None) -> None:
        """Says what an episode's rewards sum to; None where it is not known.

        Raises:
          UserError: they are no range.
        """
        self.lowest_reward = lowest
        self.score_range = score_range(lowest, highest)

    @abc.abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """What a worker begins with, plain values."""

    @abc.abstractmethod
    def chosen(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a worker's `reset` is told of a row's episode. Raises UserError for a row that has none."""

    @abc.abstractmethod
    def form(self, row: Mapping[str, Any]) -> Form:
        """How the policy is heard and shown in a row's episode."""

    def ready(self) -> None:
        """Raises UserError where there is no environment with the package, or it refuses the settings."""
        self.facts()

    def facts(self) -> Fields:
        """What the package says of itself with these settings; starts a worker.

        Raises:
          UserError: there is none, or it refuses them, or it fails as it begins.
        """
        return self.pool().facts()

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that names no episode."""
        self.chosen(row)

    def open(self, row: Mapping[str, Any], seed: int) -> AdapterEpisode:
        """An episode of the row; nothing is asked of a worker yet."""
        return AdapterEpisode(self.pool(), self.chosen(row), self.form(row), self.timeout)

    def pool(self) -> Pool:
        """The workers; none is started yet."""
        with self._lock:
            if self._pool is None:
                beginning = max(self._BEGINNING, self.timeout)
                self._pool = Pool(self._launch(), self.workers, self.settings(), beginning)
            return self._pool

    @property
    def passed(self) -> list[str]:
        """Names of the environment variables that the setting `variables` has."""
        return [name.strip() for name in self.variables.split(",") if name.strip()]

    def _launch(self) -> Launch:
        python = python_of(self.place, self.python, self.install)
        return Launch(self.package, python, self.worker, environment(self.passed), self.install, "timeout")

    def close(self) -> None:
        """Ends the workers, and open episodes with them."""
        with self._lock:
            pool = self._pool
            self._pool = None
        if pool is not None:
            pool.close()


def worker_file(name: str) -> pathlib.Path:
    """Of a package."""
    return WORKERS / f"adapter_{name}.py"


def json_setting(name: str, text: str) -> dict[str, Any]:
    """A setting that is a JSON object; {} where it is empty. Raises UserError where it is none."""
    return as_object(parse(text, name), name) if text.strip() else {}


def plain_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that JSON can hold. Raises UserError for one that it cannot."""
    plain = {name: value for name, value in row.items() if value is not None}
    try:
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"the row cannot be sent as JSON: {error} (columns: {named(row)}). Mend the "
                        "column.") from error
    return plain


def server_of(what: str, command: str, url: str) -> tuple[list[str], str]:
    """(words of the command that starts a server, the URL of one), of which one is empty. Raises UserError
    where not one of them is given, or it is none."""
    if bool(command.strip()) == bool(url.strip()):
        raise UserError(f"{what} is started by command = '...', or is at url = '...': give one of them.")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"command = {command!r} cannot be read: {error}. Close its quotes.") from error
    return words, checked_url(url, "url", "as http://127.0.0.1:8000") if url.strip() else ""


def score_range(lowest: float | None, highest: float | None) -> tuple[float, float] | None:
    """The settings lowest and highest; None where one is not known. Raises UserError where they are none."""
    if lowest is None or highest is None:
        return None
    if not lowest < highest:
        raise UserError(f"lowest = {lowest:g} and highest = {highest:g} are no range: let highest be above "
                        "lowest.")
    return lowest, highest
