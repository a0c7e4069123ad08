"""ALFWorld as a task: a row names a game, and its episode plays it at a worker that has the package."""
import dataclasses
import pathlib
import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxrl_moe.envs.bounds import check_above_zero, check_least
from jaxrl_moe.envs.episode_ids import episode_number
from jaxrl_moe.envs.package_workers.pool import Pool
from jaxrl_moe.envs.text.alfworld.episode import AlfWorldEpisode
from jaxrl_moe.envs.text.alfworld.instructions import CALLING, FUNCTIONS, INSTRUCTIONS
from jaxrl_moe.envs.text.alfworld.library import data_folder, game_files, is_generated, is_listed
from jaxrl_moe.envs.text.alfworld.play import Play, game_workers
from jaxrl_moe.envs.text.alfworld.problem import described
from jaxrl_moe.envs.text.alfworld.rooms import make_game
from jaxrl_moe.envs.text.answers import last_command
from jaxrl_moe.envs.text.functions import Answers, CommandForm
from jaxrl_moe.protocols import Task
from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import UserError

ENVIRONMENT = ".venv-alfworld"


@dataclasses.dataclass
class AlfWorld(Task):
    """Reward 1 for the command that does what is asked, else 0. A row says which game by `id`, a number, or
    by `item_id`, as "alfworld_12".

    Attributes:
      games: "official", ALFWorld's own or those of the folder `data`; "rooms", rooms of our own, or "small",
        rooms of our own with few things. Scores of these two are no scores of ALFWorld's.
      data: folder of games in files; empty: $ALFWORLD_DATA, else ~/.cache/alfworld.
      max_turns: turns after which an episode is cut.
      workers: processes that play the games, each some of the episodes.
      seconds: that a worker has for an answer, and to begin.
      python: of the environment that has the package alfworld; empty: of .venv-alfworld, as `make alfworld`
        makes it.
      answers: commands are given in words ("react") or by calling functions.

    Raises:
      UserError: a number is out of range, or a folder is given for rooms that are in none.
    """
    games: Literal["official", "rooms", "small"] = "official"
    data: str = ""
    max_turns: int = 30
    workers: int = 1
    seconds: float = 120.0
    python: str = ""
    answers: Answers = "react"
    lowest_reward: ClassVar[float] = 0.0
    concurrent: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True
    score_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    wire: ClassVar[str] = "alfworld"

    def __post_init__(self) -> None:
        check_least(self, max_turns=1, workers=1)
        check_above_zero(self, "seconds")
        if self.data and self.games != "official":
            raise UserError(f"data = {quoted(self.data)} is a folder of games in files, and games = "
                            f"{self.games!r} are in none: leave one of them out.")
        self._form = CommandForm(last_command, FUNCTIONS if self.answers == "functions" else ())
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._closed = False

    def ready(self) -> None:
        """Raises UserError where there are no games, or no worker can play them."""
        if self.games == "official":
            path, _ = self._file(0)
            if not path.exists():
                raise UserError(f"The first game, {path}, does not exist: fetch ALFWorld's games by "
                                f"{ENVIRONMENT}/bin/alfworld-download, or play rooms of our own, "
                                "alfworld(games='rooms').")
        self._workers().facts()

    def tools(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """The commands as functions, where answers are calls of these."""
        return self._form.tools

    def instructions(self, row: Mapping[str, Any]) -> str:
        """The commands, and the form of an answer; the same for every row."""
        return CALLING if self._form.functions else INSTRUCTIONS

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that names no game, or one of other games than the task's. How many
        there are is known where their list is there; else ready() says that it is not."""
        number = self._number(row)
        if self.games == "official" and is_listed(data_folder(self.data)):
            self._file(number)

    def open(self, row: Mapping[str, Any], seed: int) -> AlfWorldEpisode:
        """An episode of the row's game; all in it follows from the game, and nothing from the seed.

        Raises:
          UserError: there is no such game, or no environment of the package's.
        """
        number = self._number(row)
        if self.games == "official":
            path, task_type = self._file(number)
            generated = is_generated(data_folder(self.data))
            return AlfWorldEpisode(self.play(), {"file": str(path)}, task_type, self._form, generated)
        game = make_game(number, self.games)
        return AlfWorldEpisode(self.play(), described(game), game.label, self._form, True)

    def play(self) -> Play:
        """A game at one of the workers, which is not begun yet.

        Raises:
          UserError: there is no environment of the package's, or the task is closed.
        """
        return Play(self._workers(), self.seconds)

    def close(self) -> None:
        """Ends the workers."""
        with self._lock:
            self._closed = True
            if self._pool is not None:
                self._pool.close()

    def _number(self, row: Mapping[str, Any]) -> int:
        number = episode_number(row, "alfworld")
        if row.get("games") not in (None, self.games):
            raise UserError(f"The row is of the games {quoted(row['games'])}, and the task has "
                            f"{self.games!r}: write env.name=\"alfworld(games='...')\" as the rows say.")
        return number

    def _file(self, number: int) -> tuple[pathlib.Path, str]:
        folder = data_folder(self.data)
        files = game_files(folder)
        if number >= len(files):
            raise UserError(f"There is no game {number}: {folder} has {len(files)}, numbered from 0.")
        return files[number]

    def _workers(self) -> Pool:
        with self._lock:
            if self._closed:
                raise UserError("The task is closed: make another one.")
            if self._pool is None:
                self._pool = game_workers(self.python, self.workers, self.seconds)
            return self._pool
