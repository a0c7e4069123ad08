"""BabyAI's worlds as tests look at them: in minigrid's own coordinates, x to the right and y down."""
import hashlib
import random

from jaxrl_moe.envs.text.babyai.episode import BabyAIEpisode
from jaxrl_moe.envs.text.babyai.levels import data_index
from jaxrl_moe.envs.text.babyai.oracles import RoomPlanner
from jaxrl_moe.envs.text.babyai.rows import LEARNING_TURNS
from jaxrl_moe.types import Action

HEADINGS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # as minigrid counts them
REACH = 7                                      # cells of the view, its width too


def absolute(world, place):
    """(x, y) of a place (forward, right) of the agent; to the right of (dx, dy) lies (-dy, dx)."""
    forward, right = place
    ahead_x, ahead_y = HEADINGS[world.agent_dir]
    x = world.agent_pos[0] + forward * ahead_x - right * ahead_y
    y = world.agent_pos[1] + forward * ahead_y + right * ahead_x
    return int(x), int(y)


def seen_cells(world):
    """{(forward, right): what is there} of what minigrid shows: a cell is in sight where the agent's own
    picture does not say "unseen". The agent's own is left out."""
    image = world.gen_obs()["image"]
    places = [(REACH - 1 - row, column - REACH // 2) for column in range(REACH) for row in range(REACH)]
    return {(forward, right): world.grid.get(*absolute(world, (forward, right))) for forward, right in places
            if image[right + REACH // 2, REACH - 1 - forward, 0] and (forward, right) != (0, 0)}


def walk(index, turns=12):
    """Yields an episode, and what it shows, at each of some turns of random actions."""
    generator = random.Random(index)
    episode = BabyAIEpisode(index)
    text = episode.reset()[0]["content"]
    for _ in range(turns):
        yield episode, text
        step = episode.step(Action(generator.choice(list(episode.scene.actions)), 3, False))
        if step.done:
            break
        text = step.observation[0]["content"]


def spoken():
    """A digest of what some episodes show."""
    digest = hashlib.sha256()
    for index in range(0, 120, 7):
        episode = BabyAIEpisode(index)
        texts = [*episode.reset(), *episode.step(Action("turn left", 1, False)).observation]
        digest.update(repr(texts).encode())
    return digest.hexdigest()


def planned_turns(level, seed):
    """Turns that the planner takes; 0 where it does not fulfil the mission within LEARNING_TURNS."""
    episode = BabyAIEpisode(data_index(level, seed))
    episode.reset()
    planner = RoomPlanner(episode)
    for turn in range(LEARNING_TURNS):
        step = episode.step(Action(planner.advice().action, 3, False))
        assert step.info["valid"] == 1
        if step.done:
            return (turn + 1) * episode.is_fulfilled
    return 0
