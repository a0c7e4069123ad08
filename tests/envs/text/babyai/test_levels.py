"""AgentGym's numbering of BabyAI's levels, and worlds that follow from their number alone."""
import os
import pathlib
import subprocess
import sys

import pytest

from jaxrl_moe.envs.text.babyai.levels import (
    LEVELS,
    data_index,
    gymnasium_id,
    level_and_seed,
    levels_of,
    make_world,
)
from jaxrl_moe.types import UserError
from tests.helpers.babyai import spoken

# Some of AgentGym's own table, as its servers are known to have it; its GoToObjS6-v0 is v1 by now.
AGENTGYM = {1: "BabyAI-GoToRedBallGrey-v0", 2: "BabyAI-GoToRedBall-v0", 4: "BabyAI-GoToObjS6-v1",
            10: "BabyAI-GoToDoor-v0", 13: "BabyAI-OpenRedDoor-v0", 20: "BabyAI-PickupDistDebug-v0",
            26: "BabyAI-KeyInBox-v0", 33: "BabyAI-OneRoomS20-v0", 40: "BabyAI-BossLevelNoUnlock-v0"}
ROOT = pathlib.Path(__file__).parents[4]


def test_the_forty_levels_have_agentgyms_numbers():
    assert len(set(LEVELS)) == len(LEVELS) == 40
    assert {level: gymnasium_id(level) for level in AGENTGYM} == AGENTGYM
    assert level_and_seed(12) == (13, 0) and level_and_seed(85) == (6, 2)
    assert all(data_index(*level_and_seed(index)) == index for index in range(200))


@pytest.mark.parametrize("level", range(1, 41))
def test_every_level_is_in_minigrid_and_holds_what_the_descriptions_have_words_for(level):
    worlds = [make_world(data_index(level, seed)) for seed in (0, 0, 1)]
    cells = [world.grid.encode().tobytes() for world in worlds]
    assert cells[0] == cells[1] != cells[2]
    kinds = {cell.type for cell in worlds[0].grid.grid if cell is not None}
    assert "wall" in kinds <= {"wall", "door", "key", "ball", "box"}
    assert worlds[0].mission == worlds[1].mission and worlds[0].max_steps > 0


@pytest.mark.parametrize("text, levels", [("", tuple(range(1, 41))), ("GoToRedBall", (2,)),
                                          (" 13, GoToObjS6 ", (13, 4))])
def test_levels_are_given_by_name_or_number(text, levels):
    assert levels_of(text) == levels


@pytest.mark.parametrize("text, message", [("GoToRedBal", "Did you mean 'GoToRedBall'"),
                                           ("0", "from 1 to 40"),
                                           ("41", "no level"), ("1,,2", "no level"), ("²", "no level"),
                                           ("2,GoToRedBall", "level 2 .GoToRedBall. twice")])
def test_levels_that_are_none_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        levels_of(text)


def test_processes_agree_whatever_their_hash_seed_and_nothing_is_printed_or_shown():
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("DISPLAY", "PYGAME_HIDE_SUPPORT_PROMPT", "SDL_VIDEODRIVER")}
    environment["PYTHONHASHSEED"] = "2" if environment.get("PYTHONHASHSEED") == "1" else "1"
    program = "from tests.helpers.babyai import spoken; print(spoken())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True,
                          check=True, env=environment)
    assert done.stderr == "" and done.stdout == f"{spoken()}\n"
