"""What the pages on WebShop and on mathematics say is so."""
import dataclasses
import json
import pathlib
import re

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.math import Mathematics
from jaxrl_moe.envs.text.webshop import WebShop
from jaxrl_moe.types import Action

DOCS = pathlib.Path(__file__).parents[2] / "docs"
SHOP = (DOCS / "agents" / "webshop.md").read_text()
MATH = (DOCS / "math.md").read_text()


@pytest.mark.parametrize("page, kind", [(SHOP, WebShop), (MATH, Mathematics)])
def test_settings_are_those_of_the_task_with_their_defaults(page, kind):
    settings = re.findall(r"^\| `([a-z_]+)` \| `([^`]+)` \|", page, re.M)
    assert settings == [(field.name, repr(field.default)) for field in dataclasses.fields(kind)]


@pytest.mark.parametrize("page, name", [(SHOP, "webshop"), (MATH, "math")])
def test_rows_are_taken_by_the_task(page, name):
    (rows,) = re.findall(r"^```jsonl\n(.*?)^```$", page, re.M | re.S)
    for number, row in enumerate(map(json.loads, rows.splitlines())):
        make_task(name).check_row(row, number)


def test_a_visit_goes_as_the_page_shows_it():
    (start,) = re.findall(r"^```text\n(.*?)\n```$", SHOP, re.M | re.S)
    env = make_task("webshop").open({"id": 0}, 0)
    assert env.reset()[0]["content"] == start
    shown = dict(re.findall(r"^\| `(.*Action: [^`]*)` \| (.*) \|$", SHOP, re.M))
    assert len(shown) == 7
    pages = []
    for answer in shown:
        if "OURS" in answer:  # one that stands on the page
            answer = f"click[{next(each for each in env.available_actions['clickables'] if 'ours' in each)}]"
        if "black" in answer:  # one that it has
            answer = f"click[{env.available_actions['clickables'][-1]}]"
        step = env.step(Action(answer, 5, False))
        pages.append(env.page)
    assert ["Page 1" in pages[0], "Page 2" in pages[1], "Buy Now" in pages[2]] == [True] * 3
    assert "Buy Now" not in pages[3] and pages[4] == pages[2] == pages[5]
    assert step.done and step.info["valid"] == 1


def test_answers_are_worth_what_stands_beside_them():
    pytest.importorskip("math_verify")
    task = make_task("math(timeout=60, workers=1)")
    rows = re.findall(r"^\| `(.*)` \| `(.*)` \| ([01]) \|$", MATH, re.M)
    assert len(rows) == 6
    for gold, completion, reward in rows:
        assert task.grade({"answer": gold}, Action(completion, 5, False)).reward == float(reward)
    task.close()
