"""A small game of several turns, to be served and played."""
import dataclasses
import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxrl_moe.envs.text.answers import BadAction, action_of
from jaxrl_moe.protocols import Env, Task
from jaxrl_moe.types import Action, Messages, Step, UserError

GOALS = 100


@dataclasses.dataclass
class Guessing(Task):
    """Guess the row's number, from 0 to 99: reward 1 for it, 0.25 for a guess beyond these. Some words do
    more: "crash" raises an exception, "nan" gives a reward that is none, and "wait" waits until `go` is
    set.

    Attributes:
      kind: of AgentGym's environments that its messages and attributes are like; empty: of those that tell
        nothing beside an observation.
      opened, closed: episodes.
      waiting: calls that wait, or have waited.
    """
    max_turns: int = 20
    kind: Literal["", "alfworld", "sciworld", "webshop"] = ""
    lowest_reward: ClassVar[float] = 0.0
    concurrent: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    def __post_init__(self):
        self.opened = 0
        self.closed = 0
        self.waiting = 0
        self.go = threading.Event()
        self.lock = threading.Lock()

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        if type(row.get("id")) is not int or not 0 <= row["id"] < GOALS:
            raise UserError(f"There is no game {row.get('id')!r}: they are numbered from 0 to {GOALS - 1}.")

    def open(self, row: Mapping[str, Any], seed: int) -> "GuessingGame":
        with self.lock:
            self.opened += 1
        return GuessingGame(self, row["id"])

    def close(self) -> None:
        pass


ACTIONS = ["0", "1, or more", "crash"]
DESCRIPTION = "Task: find the number."
BUTTONS = {"has_search_bar": True, "clickables": ["search", "buy, now"]}


class GuessingGame(Env):
    """What an environment of the task's kind tells beside its messages are its attributes."""
    task_type = "guess/the-number"
    instruction_text = "Find the number."
    task_description = DESCRIPTION

    def __init__(self, task: Guessing, number: int):
        self._task = task
        self._number = number
        self._guesses = 0
        self._over = False
        self._closed = False

    @property
    def available_actions(self):
        """The same always."""
        return {"alfworld": ACTIONS, "webshop": BUTTONS}[self._task.kind]

    def reset(self) -> Messages:
        first = f"{DESCRIPTION}\n" * (self._task.kind == "sciworld")
        return self._said(f"{first}Game {self._number}: guess.")

    def _said(self, text: str) -> Messages:
        actions = "\nAVAILABLE ACTIONS: " + ",".join(ACTIONS) if self._task.kind == "alfworld" else ""
        return ({"role": "user", "content": text + actions},)

    def step(self, action: Action) -> Step:
        if self._over:
            raise UserError("The game is over.")
        self._guesses += 1
        try:
            word = action_of(action.text)
        except BadAction as error:
            return Step(0.0, False, {"correct": 0.0}, self._said(str(error)))
        return self._played(word)

    def _played(self, word: str) -> Step:
        if word == "crash":
            raise KeyError("the board")
        if word == "nan":
            return Step(float("nan"), False)
        if word == "wait":
            with self._task.lock:
                self._task.waiting += 1
            self._task.go.wait(60)
        if not word.isdigit():
            said = self._said(f"Game {self._number}: {word!r} is no number.")
            return Step(0.0, False, {"correct": 0.0}, said)
        guess = int(word)
        self._over = guess == self._number
        if self._over:
            return Step(1.0, True, {"correct": 1.0, "guesses": float(self._guesses)}, (), ("found",))
        way = "more" if guess < self._number else "less"
        reward = 0.0 if guess < GOALS else 0.25
        said = self._said(f"Game {self._number}: {way} than {guess}.")
        return Step(reward, False, {"correct": 0.0}, said, ())

    def close(self) -> None:
        if not self._closed:
            with self._task.lock:
                self._task.closed += 1
        self._closed = True


def guessing(wire: str) -> Guessing:
    """The game as an environment of AgentGym's tells it."""
    return Guessing(kind=wire if wire in ("alfworld", "sciworld", "webshop") else "")


def unready() -> Guessing:
    """The game where it lacks something."""
    def refuse():
        raise UserError("There is no dice here: bring one.")
    task = Guessing()
    task.ready = refuse
    return task
