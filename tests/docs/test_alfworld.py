"""What docs/agents/alfworld.md says of rows, settings and rooms is so; test_games plays its episode."""
import dataclasses
import json
import pathlib
import re

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.alfworld import AlfWorld
from jaxrl_moe.envs.text.alfworld.planner import plan
from jaxrl_moe.envs.text.alfworld.rooms import TASKS, make_game

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "agents" / "alfworld.md").read_text()


def test_the_settings_of_alfworld_are_those_of_the_task():
    settings = re.findall(r"^\| `(\w+)` \| `?([^`|]+?)`? \|", PAGE, re.M)
    assert settings == [(field.name, repr(field.default)) for field in dataclasses.fields(AlfWorld)]


def test_the_rows_of_alfworld_name_games(tmp_path):
    (rows,) = re.findall(r"^```jsonl\n(.*?)^```$", PAGE, re.M | re.S)
    first, second = map(json.loads, rows.splitlines())
    make_task("alfworld").check_row(first, 0)
    make_task("alfworld(games='small')").check_row(second, 1)


def test_the_plans_of_rooms_are_as_long_as_the_page_says():
    lengths = [len(plan(make_game(number, size))) for size in ("rooms", "small") for number in range(600)]
    assert f"of {min(lengths)} to {max(lengths)} commands" in PAGE
    assert all(make_game(number).goal.task == list(TASKS)[number % 6] for number in range(12))
