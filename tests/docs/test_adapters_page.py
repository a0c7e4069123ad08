"""What the page on other packages' environments says is so: their names, rows and settings."""
import dataclasses
import json
import pathlib
import re

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.adapters.gymnasium import KNOWN, GymnasiumTask
from jaxrl_moe.envs.adapters.reasoning_gym import ReasoningGymTask
from tests.helpers.adapters import scorers_that_evaluate

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "agents" / "adapters.md").read_text()
SHARED = ("workers", "timeout", "python", "variables")


def test_each_name_makes_a_task_whose_rows_are_as_the_page_says():
    names = re.findall(r"^\| `(\w+\(.*?\))` \|", PAGE, re.M)
    assert len(names) == 5
    (row,) = re.findall(r"^```jsonl\n(.*?)^```$", PAGE, re.M | re.S)
    for name in names:
        make_task(name).check_row(json.loads(row) | {"answer": "3"}, 0)


def test_the_settings_are_those_of_the_tasks():
    listed = re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \| `?([^`|]*?)`? \|", PAGE, re.M)
    told = {name: default.strip() for names in listed for name in names[:2] if name for default in names[2:]}
    for field in dataclasses.fields(GymnasiumTask):
        default = "needed" if field.default is dataclasses.MISSING else repr(field.default)
        assert told.pop(field.name) == default, field.name
    assert not told
    for task in ("openenv", "verifiers", "reasoning_gym", "mcp"):
        kind = type(make_task(re.search(rf"`({task}\(.*?\))`", PAGE)[1]))
        fields = {field.name: field.default for field in dataclasses.fields(kind)}
        assert tuple(map(fields.get, SHARED)) == (2, 60.0, "", "")


def test_known_environments_and_scorers_that_evaluate_are_named():
    assert all(re.match(r"[A-Z][a-z]+(?:[A-Z][a-z]+)?", name)[0][:6] in PAGE for name in KNOWN)
    assert all(name in PAGE for name in scorers_that_evaluate())
    assert f"`size` ({ReasoningGymTask('x').size})" in PAGE
    assert f"`scoring` ({ReasoningGymTask('x').scoring:g})" in PAGE
