"""The 40 levels of BabyAI that AgentGym numbers, and their worlds; an index names level and seed."""
import importlib.util
import os
from typing import TYPE_CHECKING

from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import UserError

if TYPE_CHECKING:
    from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel

# In AgentGym's order: the first is level 1.
LEVELS = ("GoToRedBallGrey", "GoToRedBall", "GoToRedBallNoDists", "GoToObjS6", "GoToLocalS8N7",
          "GoToObjMazeS7", "GoToImpUnlock", "GoToSeqS5R2", "GoToRedBlueBall", "GoToDoor",
          "GoToObjDoor", "Open", "OpenRedDoor", "OpenDoorLoc", "OpenRedBlueDoorsDebug",
          "OpenDoorsOrderN4Debug", "Pickup", "UnblockPickup", "PickupLoc", "PickupDistDebug",
          "PickupAbove", "PutNextLocalS6N4", "PutNextS7N4Carrying", "Unlock", "UnlockLocalDist",
          "KeyInBox", "UnlockPickupDist", "BlockedUnlockPickup", "UnlockToUnlock", "ActionObjDoor",
          "FindObjS7", "KeyCorridorS6R3", "OneRoomS20", "MoveTwoAcrossS8N9", "SynthS5R2",
          "SynthLoc", "SynthSeq", "MiniBossLevel", "BossLevel", "BossLevelNoUnlock")
_SECOND_VERSION = ("GoToObjS6",)  # whose v0 today's minigrid no longer has


def gymnasium_id(level: int) -> str:
    """What gymnasium calls a level, 1 to 40."""
    name = LEVELS[level - 1]
    return f"BabyAI-{name}-v{int(name in _SECOND_VERSION)}"


def level_and_seed(index: int) -> tuple[int, int]:
    """The level, 1 to 40, and the seed of its world that a data index stands for, in AgentGym as here."""
    return index % len(LEVELS) + 1, index // len(LEVELS)


def data_index(level: int, seed: int) -> int:
    """The index of a level, 1 to 40, with a seed."""
    return seed * len(LEVELS) + level - 1


def levels_of(text: str) -> tuple[int, ...]:
    """Levels from names or numbers with commas between, such as "GoToRedBall,13"; all 40 for an empty text.

    Raises:
      UserError: there is no such level, or one stands there twice.
    """
    if not text.strip():
        return tuple(range(1, len(LEVELS) + 1))
    levels = tuple(_level(item.strip()) for item in text.split(","))
    for level in levels:
        if levels.count(level) > 1:
            raise UserError(f"levels = {quoted(text)} names level {level} ({LEVELS[level - 1]}) twice: name "
                            "it once.")
    return levels


def _level(item: str) -> int:
    if item in LEVELS:
        return LEVELS.index(item) + 1
    if item.isascii() and item.isdigit() and len(item) < 4 and 1 <= int(item) <= len(LEVELS):
        return int(item)
    raise UserError(f"levels has {quoted(item)}, which is no level: give numbers from 1 to {len(LEVELS)} or "
                    f"names such as {LEVELS[1]}, with commas between.{did_you_mean(item, LEVELS)}")


def make_world(index: int) -> "RoomGridLevel":
    """The world of an index at its beginning. All that is drawn for it follows from the index: nothing of
    this process or of other worlds has a part in it. minigrid must be there, see check_installed."""
    level, seed = level_and_seed(index)
    registered = _registry()[gymnasium_id(level)]
    module, _, name = registered.entry_point.partition(":")
    # Not by gymnasium.make, whose wrappers check every step and warn.
    world = getattr(importlib.import_module(module), name)(**registered.kwargs)
    world.reset(seed=seed)
    return world


def check_installed() -> None:
    """Raises UserError where minigrid is not installed, or told by the environment variable
    BABYAI_DONE_ACTIONS to judge missions in another way."""
    for package in ("minigrid", "gymnasium"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"BabyAI needs {package}, which is not installed. It comes with the extra "
                            '`agents`: pip install -e ".[agents]".')
    if os.environ.get("BABYAI_DONE_ACTIONS"):
        raise UserError("The environment variable BABYAI_DONE_ACTIONS is set, so that minigrid waits for a "
                        "word of the agent that it is done, which no action here says: unset it.")


def _registry() -> dict:
    """gymnasium's table of environments, with minigrid's in it."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import gymnasium
    import minigrid  # noqa: F401  which registers its environments
    from minigrid.envs.babyai.core import roomgrid_level

    # It prints each world that it draws and rejects. Its own name `print` is covered, as stdout belongs to
    # all threads.
    roomgrid_level.print = _silent
    return gymnasium.registry


def _silent(*_: object) -> None:
    """Prints nothing."""
