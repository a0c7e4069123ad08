"""Data on BabyAI: prompts for RL, and episodes of two kinds of players for supervised fine-tuning."""
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from jaxrl_moe.envs.text.babyai.episode import BabyAIEpisode
from jaxrl_moe.envs.text.babyai.instructions import answer, instructions
from jaxrl_moe.envs.text.babyai.levels import LEVELS, data_index, levels_of, make_world
from jaxrl_moe.envs.text.babyai.oracles import Advice, RoomPlanner
from jaxrl_moe.envs.text.babyai.task import BabyAI
from jaxrl_moe.spelling import cut
from jaxrl_moe.types import Action, UserError

# What a model of a million parameters can learn in minutes: one room, few things, eight turns at most.
LEARNING_LEVELS = "GoToRedBallNoDists,GoToObjS6,GoToDoor,PickupDistDebug,UnlockLocalDist"
LEARNING_TURNS = 8
BEGINNERS_TURNS = 3
CAREFUL_SHARE = 0.5          # of the players whose episodes the supervised phase imitates
_HELD_OUT_SHARE = 8          # one in so many worlds is held out
_MOST_MISSES = 2000          # draws without a new world, after which there is none
_SEEDS = (1000, 50_000_000)  # AgentGym's own data has lower ones


def prompts(count: int, seed: int, split: str, terse: bool,
            levels: str = LEARNING_LEVELS) -> list[dict[str, Any]]:
    """Rows of RL: the instructions as a system message, and the data index of a world; the episode shows the
    goal.

    Args:
      count: of rows; no world comes twice.
      seed: decides which worlds.
      split: "train" or "test". To which of them a world belongs follows from the world itself and not from
        its index: they share none.
      terse: whether answers are the action alone, without a thought, for models that learn in minutes.
      levels: as the task's setting; about as many worlds of each.
    """
    worlds = _worlds(seed, split, levels)
    return [{"prompt": _instructed(terse), "id": next(worlds)} for _ in range(count)]


def conversations(count: int, seed: int, split: str, terse: bool, levels: str = LEARNING_LEVELS,
                  careful: float = CAREFUL_SHARE) -> list[dict[str, Any]]:
    """Rows of SFT: episodes in `messages`, and in `careful` who plays them. The planner does so to their end
    within LEARNING_TURNS. A beginner takes any of the available actions, in BEGINNERS_TURNS turns at most: a
    policy that has learnt from both can do all that there is to do, and whom to follow is left for RL to find
    out.

    Args:
      count, seed, split, terse: as of prompts.
      levels: such as the planner can play, see oracles.RoomPlanner.
      careful: the planner's share of the episodes, from 0 to 1.
    """
    rows: list[dict[str, Any]] = []
    worlds = _worlds(seed, split, levels)
    players = random.Random(f"players {seed} {split}")
    while len(rows) < count:
        index = next(worlds)
        is_careful = players.random() < careful
        messages = _planned(index, terse) if is_careful else _tried(index, terse, players)
        rows += [{"messages": messages, "id": index, "careful": is_careful}] * bool(messages)
    return rows


def episodes(task: BabyAI, seed: int, split: str) -> Iterator[dict[str, Any]]:
    """Yields rows of different worlds of a split, of the task's levels, without an end but that of the
    worlds."""
    for index in _worlds(seed, split, task.levels or ",".join(LEVELS)):
        yield {"id": index}


def _worlds(seed: int, split: str, levels: str) -> Iterator[int]:
    """Yields indices of different worlds of a split."""
    held_out = {"train": False, "test": True}[split]
    generator = random.Random(f"worlds {seed} {split}")
    numbers = levels_of(levels)
    seen: set[int] = set()
    misses = 0
    while misses < _MOST_MISSES:
        index = data_index(generator.choice(numbers), generator.randrange(*_SEEDS))
        mark = _mark(index)
        misses += 1
        if is_held_out(mark) == held_out and mark not in seen:
            seen.add(mark)
            misses = 0
            yield index
    levels = cut(levels)
    raise UserError(f"The levels {levels} have no more than {len(seen)} different worlds for {split!r}: ask "
                    "for fewer rows, or add levels.")


def is_held_out(mark: int) -> bool:
    """Whether a world belongs to the held-out ones."""
    return mark % _HELD_OUT_SHARE == 0


def _mark(index: int) -> int:
    """The same for worlds that are alike at their beginning, in mission, cells and agent."""
    world = make_world(index)
    agent = (*map(int, world.agent_pos), int(world.agent_dir))
    return zlib.crc32(world.grid.encode().tobytes(), zlib.crc32(f"{world.mission} {agent}".encode()))


def _instructed(terse: bool) -> list[dict[str, str]]:
    return [{"role": "system", "content": instructions(terse)}]


def _planned(index: int, terse: bool) -> list[dict[str, str]]:
    """The planner's episode; empty where it takes too many turns or fails."""
    episode = BabyAIEpisode(index)
    opening = episode.reset()
    planner = RoomPlanner(episode)
    messages = _played(episode, planner.advice, LEARNING_TURNS, terse)
    return [*_instructed(terse), *opening, *messages] if episode.is_fulfilled else []


def _tried(index: int, terse: bool, players: random.Random) -> list[dict[str, str]]:
    """A beginner's episode."""
    def tried() -> Advice:
        return Advice("I try this.", players.choice([*episode.scene.actions]))

    episode = BabyAIEpisode(index)
    return [*_instructed(terse), *episode.reset(), *_played(episode, tried, BEGINNERS_TURNS, terse)]


def _played(episode: BabyAIEpisode, advice: Callable[[], Advice], turns: int,
            terse: bool) -> list[dict[str, str]]:
    """What is said from the first answer to the last."""
    messages: list[dict[str, str]] = []
    for _ in range(turns):
        thought, action = advice()
        text = answer(action, thought, terse)
        step = episode.step(Action(text, 0, False))
        messages += [{"role": "assistant", "content": text}, *step.observation]
        if step.done:
            return messages
    return messages[:-1]  # without what the last answer brought to sight
