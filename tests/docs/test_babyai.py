"""What the page on BabyAI says is so: its rows and settings, its levels, its episode, its numbers."""
import dataclasses
import json
import pathlib
import re

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.babyai import BabyAI
from jaxrl_moe.envs.text.babyai.levels import LEVELS, levels_of
from jaxrl_moe.envs.text.babyai.rows import LEARNING_LEVELS
from jaxrl_moe.types import Action
from tests.helpers.babyai import planned_turns

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "agents" / "babyai.md").read_text()


def blocks(language):
    named = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.M | re.S)
    return [text for name, text in named if name == language]


def test_the_rows_settings_and_levels_of_babyai_are_those_of_the_task():
    (rows, ) = blocks("jsonl")
    for number, row in enumerate(map(json.loads, rows.splitlines())):
        make_task("babyai").check_row(row, number)
    settings = re.findall(r"^\| `(\w+)` \| `?([^`\s]+)`? \|", PAGE, re.M)
    fields = {field.name: repr(field.default) for field in dataclasses.fields(BabyAI)}
    assert settings == list(fields.items())
    listed = re.search(r"The levels, from 1:\n\n(.*?)\.\n", PAGE, re.S)[1]
    assert tuple(re.split(r",\s+", listed)) == LEVELS


def test_an_episode_of_babyai_goes_as_its_page_shows_it():
    (shown, ) = blocks("")
    env = make_task("babyai").open({"id": 224}, 0)
    assert env.reset()[0]["content"] + "\n" == shown
    answers = re.findall(r"^\| `(.*)` \| `(.*)` \|$", PAGE, re.M)
    assert len(answers) == 8
    for answer, reply in answers:
        said = env.step(Action(answer, 5, False)).observation[0]["content"]
        assert said.split("\n")[0] == reply
    assert env.world.carrying.color == "grey"


def test_the_planner_plays_as_the_page_says():
    rows = re.findall(r"^\| (\w+) \| (\d+) \| ([\d.]+) \|$", PAGE, re.M)
    assert [name for name, _, _ in rows] == [LEVELS[level - 1] for level in levels_of(LEARNING_LEVELS)]
    for name, fulfilled, turns in rows:
        taken = [count for count in map(planned_turns, [LEVELS.index(name) + 1] * 100, range(100)) if count]
        assert (len(taken), f"{sum(taken) / len(taken):.1f}") == (int(fulfilled), turns)
