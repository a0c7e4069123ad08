"""Data on rooms of our own: prompts for RL, and games as the expert plays them for supervised fine-tuning.
None of it is of ALFWorld's own games."""
import random
from collections.abc import Iterator
from typing import Any

from jaxrl_moe.envs.text.alfworld.instructions import answer, instructions
from jaxrl_moe.envs.text.alfworld.library import data_folder, game_files, is_held_out
from jaxrl_moe.envs.text.alfworld.oracle import turns as expert_turns
from jaxrl_moe.envs.text.alfworld.planner import plan
from jaxrl_moe.envs.text.alfworld.rooms import TASKS, Size, make_game
from jaxrl_moe.envs.text.alfworld.task import AlfWorld
from jaxrl_moe.types import UserError

_NUMBERS = 50_000_000
_MOST_MISSES = 2000  # draws without a new game, after which there is none


def prompts(count: int, seed: int, split: str, terse: bool, games: Size = "rooms",
            turns: int = 30) -> list[dict[str, Any]]:
    """Rows of RL: the instructions as a system message, and the number of a game; the episode shows the room
    and the task.

    Args:
      count: of rows; no room comes twice with the same task, and the types of tasks take turns.
      seed: decides which games.
      split: "train" or "test". To which of them a game belongs follows from its layout and task.
      terse: whether answers are the command alone, without a thought, for models that learn in minutes.
      games: as the task's setting.
      turns: the games are those that can be won in so many turns by one who knows where everything is.
    """
    numbers = _numbers(seed, split, games, turns)
    return [{"prompt": _instructed(terse), "id": next(numbers), "games": games} for _ in range(count)]


def conversations(count: int, seed: int, split: str, terse: bool, games: Size = "rooms", turns: int = 30,
                  python: str = "") -> list[dict[str, Any]]:
    """Rows of SFT: games as the expert wins them, in `messages`; others are left out.

    Args:
      count, seed, split, terse, games: as of prompts.
      turns: in which the expert, who has to look for things, wins.
      python: as the task's setting.

    Raises:
      UserError: the environment of the package alfworld is not there, see play.game_workers.
    """
    task = AlfWorld(games=games, max_turns=turns, python=python)
    task.ready()
    try:
        played = (_played(task, number, terse) for number in _numbers(seed, split, games, turns))
        won = (row for row in played if row is not None)
        return [next(won) for _ in range(count)]
    finally:
        task.close()


def episodes(task: AlfWorld, seed: int, split: str) -> Iterator[dict[str, Any]]:
    """Yields rows of a split of a task's games, each once: rooms of our own without an end but that of the
    rooms, or of games in files all."""
    if task.games != "official":
        for number in _numbers(seed, split, task.games, task.max_turns):
            yield {"id": number, "games": task.games}
        return
    held_out = {"train": False, "test": True}[split]
    folder = data_folder(task.data)
    numbers = [number for number, (path, _) in enumerate(game_files(folder))
               if is_held_out(path, folder) == held_out]
    random.Random(f"alfworld games {seed} {split}").shuffle(numbers)
    for number in numbers:
        yield {"id": number}


def _numbers(seed: int, split: str, games: Size, turns: int) -> Iterator[int]:
    """Yields the numbers of different games of a split."""
    held_out = {"train": False, "test": True}[split]
    draw = random.Random(f"alfworld rows {seed} {split}")
    seen: set[str] = set()
    misses = 0
    while misses < _MOST_MISSES:
        number = draw.randrange(_NUMBERS) // len(TASKS) * len(TASKS) + len(seen) % len(TASKS)
        game = make_game(number, games)
        misses += 1
        if game.is_held_out == held_out and game.layout not in seen and len(plan(game)) <= turns:
            seen.add(game.layout)
            misses = 0
            yield number
    raise UserError(f"There are no more than {len(seen)} different games of {games!r} for {split!r} that can "
                    f"be won in {turns} turns: ask for fewer rows, or for longer games.")


def _instructed(terse: bool) -> list[dict[str, str]]:
    return [{"role": "system", "content": instructions(terse)}]


def _played(task: AlfWorld, number: int, terse: bool) -> dict[str, Any] | None:
    """The expert's game; None where it does not win."""
    messages: list[Any] = _instructed(terse)
    won = False
    for shown, advice, reward in expert_turns(task, {"id": number}):
        messages += [*shown, {"role": "assistant", "content": answer(advice.command, advice.thought, terse)}]
        won = reward > 0
    return {"messages": messages, "id": number, "games": task.games} if won else None
