"""The page on several environments: its settings, rows, ranges and metrics are those of
the code."""
import dataclasses
import json
import pathlib
import re
import shlex

import numpy as np
import pytest

from jaxrl_moe.config import known_keys, resolve
from jaxrl_moe.envs import make_task
from jaxrl_moe.recipes import settings
from jaxrl_moe.runs.metrics import of_each_env
from tests.helpers.rollouts import group, rollout

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs/agents/mixed.md").read_text()
SPEC = "mixed(textcraft=\"textcraft(recipes='small')\", babyai='babyai(max_turns=3)')"


def test_the_commands_name_settings_and_their_values_are_read():
    commands = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.M | re.S)
    given = [word.removeprefix("--config.").split("=", 1) for command in commands
             for word in shlex.split(command) if word.startswith("--config.")]
    assert [value for name, value in given if name == "env.name"] == [SPEC]
    for name, value in given:
        section, _, key = name.partition(".")
        assert name in known_keys() and resolve({section: {key: value}})
    assert resolve(settings(str(ROOT / "configs/agents/mixed_grpo.py"))).data.shares


def test_the_rows_are_those_of_the_mixture():
    (rows,) = re.findall(r"^```jsonl\n(.*?)^```$", PAGE, re.M | re.S)
    for number, row in enumerate(map(json.loads, rows.splitlines())):
        make_task(SPEC).check_row(row, number)


@pytest.mark.parametrize("spec", ["textcraft", "babyai", "word_problems", "gsm8k", "gsm8k(binary=true)",
                                  "agentgym(env='sciworld', url='http://localhost:1')"])
def test_ranges_of_scores_are_as_the_page_has_them(spec):
    name, _, binary = spec.partition("(binary")
    low, high = make_task(spec).score_range
    name = name.partition("(")[0]
    told = next(line for line in PAGE.splitlines() if line.startswith("|") and f"`{name}`" in line)
    assert f"{low:g} to {high:g}" in (told.split(";")[1] if binary else told.split(";")[0])


def test_the_metrics_of_the_table_are_those_that_runs_have():
    drawn = dataclasses.replace(rollout(np.random.default_rng(0)), info={"correct": 1.0})
    one = group([drawn, drawn])
    named = dataclasses.replace(one, prompt=dataclasses.replace(one.prompt, env="NAME"))
    names = of_each_env([named])
    assert "env/NAME/success" in names
    for name in names:
        assert name in PAGE or f"`/{name.rpartition('/')[2]}`" in PAGE
