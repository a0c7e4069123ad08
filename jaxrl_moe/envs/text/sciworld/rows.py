"""Data on ScienceWorld: prompts for RL, and episodes for supervised fine-tuning. The splits are
ScienceWorld's own."""
import concurrent.futures
import itertools
import os
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from jaxrl_moe.envs.text.sciworld.players import Meadow, Messages, expert, opening
from jaxrl_moe.envs.text.sciworld.task import SciWorld
from jaxrl_moe.envs.text.sciworld.variations import Variation, row_of, split_of, tasks_of
from jaxrl_moe.types import UserError

# Tasks whose paths are short, thirty commands at most.
SHORT_TASKS = ("find-living-thing,find-non-living-thing,find-plant,find-animal,lifespan-longest-lived,"
               "lifespan-shortest-lived,chemistry-mix-paint-secondary-color")
# What a model of a million parameters can learn in minutes, with teleportation: to look, and which animal.
MEADOW_TASKS = "lifespan-longest-lived,lifespan-shortest-lived"
MEADOW_TURNS = 3
CAREFUL_SHARE = 0.5  # of the players of meadows whose episodes the supervised phase imitates
_Made = TypeVar("_Made")


def prompts(count: int, seed: int, split: str, terse: bool, tasks: str = "") -> list[dict[str, Any]]:
    """Rows of RL: the instructions as a system message, and the number of a variation; the episode shows its
    task.

    Args:
      count: of rows at most; no variation comes twice.
      seed: decides which variations, and their order.
      split: "train" or "test"; they share no variation.
      terse: whether answers are the command alone, without a thought, for models that learn in minutes.
      tasks: as the task's setting; empty: SHORT_TASKS, or where answers are terse MEADOW_TASKS.
    """
    rows = _shuffled(seed, split, tasks or _usual(terse))[:count]
    return [{"prompt": opening(terse), **row_of(variation)} for variation in rows]


def conversations(count: int, seed: int, split: str, terse: bool, tasks: str = "",
                  careful: float = CAREFUL_SHARE, jvms: int = 0) -> list[dict[str, Any]]:
    """Rows of SFT: episodes in `messages`. Where `count` is more than there are variations, they come again.

    They are the game's own paths, of at most thirty commands. Where answers are terse, they are of three
    commands with teleportation instead: a player who knows plays the share `careful`, and a beginner, who
    focuses on any of the animals, the others: whom to follow is left for RL to find out.

    Args:
      count, seed, split, terse, tasks: as of prompts; terse ones only of MEADOW_TASKS.
      careful: from 0 to 1.
      jvms: Java processes that make them; 0: one for each core, four at most.

    Raises:
      UserError: Java or a package is missing, or no variation has such an episode.
    """
    names = tasks or _usual(terse)
    settings = {"simplifications": "easy", "max_turns": MEADOW_TURNS} if terse else {}
    task = SciWorld(tasks=names, jvms=jvms or min(4, os.cpu_count() or 1), **settings)
    try:
        task.ready()
        variations = _shuffled(seed, split, names)
        make = _meadows if terse else _paths
        return list(itertools.islice(make(task, variations, random.Random(f"players {seed} {split}"), careful,
                                          count), count))
    finally:
        task.close()


def episodes(task: SciWorld, seed: int, split: str) -> Iterator[dict[str, Any]]:
    """Yields the rows of all variations of a split that a task has, in an order of the seed."""
    for variation in _shuffled(seed, split, task.tasks):
        row = row_of(variation)
        try:
            task.check_row(row, 0)
        except UserError:  # it cannot be done with the task's simplifications
            continue
        yield row


def _paths(task: SciWorld, variations: list[Variation], players: random.Random, careful: float,
           count: int) -> Iterator[dict[str, Any]]:
    """The game's own paths, over and over."""
    def made(variation: Variation) -> tuple[Variation, Messages]:
        return variation, expert(task, row_of(variation), terse=False)

    known = [(variation, messages) for variation, messages in _at_once(task, made, variations, count)
             if messages]
    for variation, messages in itertools.cycle(_some(known)):
        yield {"messages": messages, **row_of(variation)}


def _meadows(task: SciWorld, variations: list[Variation], players: random.Random, careful: float,
             count: int) -> Iterator[dict[str, Any]]:
    """Episodes of both players, over and over."""
    def made(variation: Variation) -> tuple[Variation, Meadow]:
        return variation, Meadow(task, row_of(variation))

    known = [(variation, meadow) for variation, meadow in _at_once(task, made, variations, count)
             if meadow.right]
    for variation, meadow in itertools.cycle(_some(known)):
        is_careful = players.random() < careful
        yield {"messages": meadow.messages(None if is_careful else players), **row_of(variation),
               "careful": is_careful}


def _at_once(task: SciWorld, make: Callable[[Variation], _Made], variations: list[Variation],
             count: int) -> list[_Made]:
    """What is made of the first `count` variations, in their order, by as many threads as there are
    processes."""
    with concurrent.futures.ThreadPoolExecutor(task.jvms, "sciworld") as threads:
        return list(threads.map(make, variations[:count]))


def _some(known: list[_Made]) -> list[_Made]:
    if not known:
        raise UserError("None of these variations has an episode that ends at a score of 100: name other "
                        "tasks.")
    return known


def _usual(terse: bool) -> str:
    return MEADOW_TASKS if terse else SHORT_TASKS


def _shuffled(seed: int, split: str, tasks: str) -> list[Variation]:
    """The variations of a split."""
    variations = [Variation(name, number) for name in tasks_of(tasks) for number in split_of(name, split)]
    random.Random(f"variations {seed} {split}").shuffle(variations)
    return variations
