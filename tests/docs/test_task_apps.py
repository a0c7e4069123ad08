"""What docs/agents/task_apps.md says of the task is so."""
import dataclasses
import pathlib
import re

from jaxrl_moe.envs.remote.task_app import TaskApp
from jaxrl_moe.outgoing.calls import KEY_CODES, LATER_CODES

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "agents" / "task_apps.md").read_text()


def test_the_page_names_every_setting_of_the_task_and_its_default():
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|([^|]*)\|", PAGE.partition("## What an answer")[0], re.M)
    named = {name: defaults for names, defaults in rows for name in re.findall(r"`(\w+)`", names)}
    fields = {field.name: field.default for field in dataclasses.fields(TaskApp)}
    assert named.keys() == fields.keys()
    told = {name: named[name].strip("` ") for name in ("max_turns", "timeout", "patience", "api_key_env")}
    assert {name: str(fields[name]).removesuffix(".0") for name in told} == told


def test_the_page_names_the_statuses_as_the_client_takes_them():
    first, second, third = LATER_CODES
    assert f"another status of 400 to 499 than {first}, {second} and {third}" in PAGE
    assert f"| {KEY_CODES[0]} or {KEY_CODES[1]} |" in PAGE
