"""What docs/agents says of episodes is so: rows are read, blocks run, answers get the replies beside them."""
import dataclasses
import json
import pathlib
import re

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.textcraft import TextCraft
from jaxrl_moe.envs.text.textcraft.goals import goal_set, opening
from jaxrl_moe.envs.text.textcraft.planner import Goal, plan
from jaxrl_moe.types import Action

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PAGES = sorted((DOCS / "agents").glob("*.md"))


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / "agents" / page).read_text(), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_is_in_the_table_of_contents_and_its_python_runs(page):
    assert f"(agents/{page.name})" in (DOCS / "README.md").read_text()
    for block in blocks(page.name, "python"):
        exec(block, {})


def test_the_rows_and_settings_of_textcraft_are_those_of_the_task():
    page = (DOCS / "agents" / "textcraft.md").read_text()
    (rows,) = blocks("textcraft.md", "jsonl")
    for number, row in enumerate(map(json.loads, rows.splitlines())):
        make_task("textcraft").check_row(row, number)
    settings = re.findall(r"^\| `(\w+)` \| `?([^`|,]+?)`?(?:, [^|]*)? \|", page, re.M)
    fields = {field.name: field.default for field in dataclasses.fields(TextCraft)}
    assert [name for name, _ in settings] == list(fields)
    defaults = fields | {"distractors": goal_set("minecraft").distractors}
    assert [default for _, default in settings] == [repr(value) for value in defaults.values()]
    assert f"small: {goal_set('small').distractors} " in page


def test_the_numbers_of_textcraft_are_as_its_page_says():
    page = (DOCS / "agents" / "textcraft.md").read_text()
    minecraft = goal_set("minecraft")
    turns = [plan(minecraft.book, goal).turns for goal in minecraft.goals]
    long = sum(count > 20 for count in turns)
    assert f"Minecraft has {len(turns)} goals" in page
    assert f"the small recipes have {len(goal_set('small').goals):,}" in page
    assert f"{long} of Minecraft's goals take it more than 20 turns, the longest {max(turns)}." in page


def test_an_episode_of_textcraft_goes_as_its_page_shows_it():
    (shown,) = blocks("textcraft.md", "text")
    goals = goal_set("small")
    goal = Goal("pot", 1, (("brick", 1), ("water", 1)))
    assert shown == opening(goals.book, goal, 1) + "\n"
    env = TextCraft(recipes="small").open({"id": goals.goals.index(goal)}, 0)
    env.reset()
    page = (DOCS / "agents" / "textcraft.md").read_text()
    answers = re.findall(r"^\| `([^`]*)` \| `([^`]*)` \|$", page, re.M)
    assert len(answers) == 7
    for answer, reply in answers:
        assert env.step(Action(answer, 5, False)).observation[0]["content"] == reply
