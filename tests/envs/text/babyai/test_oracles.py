"""The levels can be played through our own actions: by minigrid's bot, and by a planner that sees what the
policy sees; how well the latter plays stands in docs/agents/babyai.md, which tests/docs holds."""
import re

import pytest

from jaxrl_moe.envs.text.babyai.episode import BabyAIEpisode
from jaxrl_moe.envs.text.babyai.levels import LEVELS, data_index
from jaxrl_moe.envs.text.babyai.oracles import BotOracle, RoomPlanner
from jaxrl_moe.types import Action, UserError

# The bot does not play these: a start with something in hand, a key that is in a box, and two doors in order,
# which minigrid judges as failed.
NOT_THE_BOTS = ("OpenDoorsOrderN4Debug", "PutNextS7N4Carrying", "KeyInBox")


def bot_plays(level, seed):
    """Whether the bot fulfils the mission; every action of its that is taken must be one."""
    episode = BabyAIEpisode(data_index(level, seed))
    episode.reset()
    bot = BotOracle(episode)
    while (action := bot.action()) is not None:
        step = episode.step(Action(f"Action: {action}", 3, False))
        assert step.info["valid"] == 1, (action, step.observation)
        if step.done:
            break
    return episode.is_fulfilled


@pytest.mark.parametrize("level", range(2, 41, 4))
def test_the_bot_plays_a_level_of_each_kind(level):
    assert bot_plays(level, 0) == (LEVELS[level - 1] not in NOT_THE_BOTS)


@pytest.mark.slow
def test_the_bot_plays_at_least_110_of_120_episodes():
    fulfilled = {(level, seed): bot_plays(level, seed) for level in range(1, 41) for seed in range(3)}
    failed = {LEVELS[level - 1] for (level, _), done in fulfilled.items() if not done}
    assert sum(fulfilled.values()) >= 110 and failed <= set(NOT_THE_BOTS)


def test_minigrid_fails_whoever_opens_the_right_first_door_of_a_debug_level():
    level = LEVELS.index("OpenDoorsOrderN4Debug") + 1
    for seed in range(8):
        episode = BabyAIEpisode(data_index(level, seed))
        episode.reset()
        bot = BotOracle(episode)
        doors = re.findall(r"the (\w+) door", episode.mission)
        first = doors[-1] if "after" in episode.mission else doors[0]
        while (action := bot.action()) != "toggle":
            episode.step(Action(action, 2, False))
        assert episode.scene.view.ahead.color == first
        step = episode.step(Action("toggle", 1, False))
        assert step.done and episode.is_fulfilled == (len(doors) == 1)


def test_a_key_in_a_box_can_be_had_though_the_bot_gives_up():
    """The box is opened, the key in it taken, the door unlocked: by looking around and the planner."""
    episode = BabyAIEpisode(data_index(LEVELS.index("KeyInBox") + 1, 0))
    episode.reset()
    planner = RoomPlanner(episode)
    for _ in range(40):
        actions = episode.scene.actions
        boxes = [action for action in actions if action.startswith("go to") and "box" in action]
        faced = episode.scene.view.ahead is not None and episode.scene.view.ahead.type == "box"
        action = "toggle" if faced else boxes[0] if boxes else planner.advice().action
        if episode.step(Action(action, 3, False)).done:
            break
    assert episode.is_fulfilled


def test_the_planner_says_which_missions_it_does_not_play():
    episode = BabyAIEpisode(data_index(22, 0))
    episode.reset()
    with pytest.raises(UserError, match="does not play 'put .* next to"):
        RoomPlanner(episode)
