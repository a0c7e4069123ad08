"""What the page on ScienceWorld says is so: its rows and settings, its tasks, its episode."""
import dataclasses
import json
import pathlib
import re

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.sciworld import SciWorld, jvm
from jaxrl_moe.envs.text.sciworld.variations import COUNT, TASKS, UNNUMBERED
from jaxrl_moe.types import Action
from tests.helpers import sciworld

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "agents" / "sciworld.md").read_text()


def test_the_rows_settings_and_tasks_of_sciworld_are_those_of_the_task():
    (rows, ) = re.findall(r"^```jsonl\n(.*?)^```$", PAGE, re.M | re.S)
    for number, row in enumerate(map(json.loads, rows.splitlines())):
        make_task("sciworld").check_row(row, number)
    settings = re.findall(r"^\| `(\w+)` \| `?([^`\s]+)`? \|", PAGE, re.M)
    fields = {field.name: repr(field.default) for field in dataclasses.fields(SciWorld)}
    assert settings == list(fields.items())
    listed = re.search(r"The tasks, with their variations:\n\n(.*?)\.\n", PAGE, re.S)[1]
    told = dict(each.rsplit(" ", 1) for each in re.split(r",\s+", listed))
    assert {name: int(count) for name, count in told.items()} == TASKS
    assert f"23\ntasks one after the other, {COUNT:,} in all; the seven others" in PAGE
    assert (len(TASKS) - len(UNNUMBERED), len(UNNUMBERED)) == (23, 7)
    assert f"classes {jvm.METASPACE_MB} MB, compiled code {jvm.CODE_MB} MB, and about 100 MB" in PAGE


def test_an_episode_of_sciworld_goes_as_its_page_shows_it():
    env = sciworld.shared_task().open(sciworld.PARROT, 0)
    env.reset()
    answers = re.findall(r"^\| `(.*)` \| `(.*)` \|$", PAGE, re.M)
    assert len(answers) == 4
    for answer, reply in answers:
        assert env.step(Action(answer, 5, False)).observation[0]["content"] == reply
    env.close()
