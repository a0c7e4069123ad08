"""The page on POST /rollouts: its request is answered in its shape, its tables are those of the code."""
import dataclasses
import json
import pathlib
import re
import shlex

import httpx
import pytest

from jaxrl_moe.envs.remote.remote_rollouts import RemoteRollouts
from jaxrl_moe.serving.envs.launch import EnvOptions, make_server
from jaxrl_moe.serving.policy.client import BUSY, ENOUGH
from jaxrl_moe.serving.rollouts.answer import MOST_BYTES
from jaxrl_moe.serving.rollouts.bodies import MOST_IDS, RolloutsBody
from jaxrl_moe.serving.rollouts.run import LONGEST_TALK
from jaxrl_moe.types import Status
from tests.helpers.rollout_servers import policy, turn_of

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "agents" / "rollouts.md").read_text()


def table(title):
    """[cells] of the table whose first column is called so."""
    rows = re.search(rf"^\| {re.escape(title)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.M)[1].splitlines()
    return [[cell.strip() for cell in row.removeprefix("|").removesuffix("|").split("|")] for row in rows]


@pytest.fixture(scope="module")
def server():
    """The server of the page's command, at a free port."""
    words = shlex.split(re.search(r"^python scripts/serve.py (.*)$", PAGE, re.M)[1])
    given = dict(word.removeprefix("--").split("=", 1) for word in words[1:])
    assert words[0] == "env" and given.pop("port") == "8081"
    assert given.pop("allow_base_url") == "http://172.17.0.1:8001"
    made, _ = make_server(EnvOptions(**given, port=0))
    with made:
        yield made


def test_the_request_of_the_page_is_answered_in_its_shape(server):
    sent = json.loads(re.search(r"^    -d '(.*)'$", PAGE, re.M)[1])
    shown = json.loads(re.search(r"^```json\n(.*?)^```$", PAGE, re.M | re.S)[1])
    commands = ("get 1 flower", "craft 1 blue dye using 1 flower")
    with policy(lambda body: f"Action: {commands[min(turn_of(body), 1)]}") as (url, asked):
        body = sent | {"base_url": url, "ids": [0, 1, 99999]}
        answer = httpx.post(f"{server.url}/rollouts", json=body, timeout=60).json()
    assert list(answer) == list(shown) and {call.body["model"] for call in asked} == {"model-name"}
    for told, like in zip(answer["details"], shown["details"], strict=True):
        assert list(told) == list(like) and told["id"] == like["id"]
        changing = {"experiences", "error", "info"}
        assert {key: told[key] for key in like if key not in changing} == {
            key: like[key] for key in like if key not in changing}
        assert told.get("info", {}).keys() == like.get("info", {}).keys()
    mine, theirs = answer["details"][0]["experiences"], shown["details"][0]["experiences"]
    assert [set(message) for message in mine] == [set(message) for message in theirs]
    assert [message.get("reward") for message in mine] == [message.get("reward") for message in theirs]
    assert answer["details"][2]["error"].startswith(shown["details"][2]["error"].removesuffix("..."))


def test_the_code_of_the_page_runs(server):
    code = re.search(r"^```py\n(.*?)^```$", PAGE, re.M | re.S)[1]
    assert "http://127.0.0.1:8081" in code
    exec(code.replace("http://127.0.0.1:8081", server.url), {})


def test_the_tables_of_the_page_are_those_of_the_code():
    fields = [name for cells in table("field") for name in re.findall(r"`(\w+)`", cells[0])]
    assert sorted(fields) == sorted(RolloutsBody.model_fields)
    settings = {field.name: field.default for field in dataclasses.fields(RemoteRollouts)}
    for (name, default, _) in table("setting"):
        given = settings.pop(name.strip("`"))
        assert default.strip("`") == ("" if given is dataclasses.MISSING else f"{given!r}".removesuffix(".0"))
    assert not settings
    defaults = EnvOptions("textcraft")
    for option, default, _ in table("option of `serve.py env`"):
        given = getattr(defaults, option.strip("`-"))
        assert default == ("" if given == () else f"{given:g}")
    ends = {row[0].strip("`") for row in table("`ended`")}
    assert ends == {"done", "truncated", "max_round", "refused", "length"}
    assert f"{MOST_IDS:,}" in PAGE and f"{LONGEST_TALK:,} characters" in PAGE and MOST_BYTES == 15 * 2**20
    assert all(f"{code}" in PAGE for code in (*BUSY, *ENOUGH))
    assert all(f"`{status}`" in PAGE for status in Status if not status.trusted)
