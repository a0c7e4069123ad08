"""The page on environment servers: its command serves, its calls are answered so, its tables are those of the
code."""
import dataclasses
import pathlib
import re
import shlex

import httpx
import pytest

from jaxrl_moe.envs.remote.agentgym import AgentGym
from jaxrl_moe.envs.remote.formats import FORMATS
from jaxrl_moe.serving.envs.launch import EnvOptions, make_server
from jaxrl_moe.serving.envs.wires import LONGEST_ACTION
from jaxrl_moe.types import Status

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "agents" / "servers.md").read_text()
PLAYED = PAGE.partition("A session plays so:")[2]
CALLS = re.findall(r"^\| `(POST \S+)` \| `(.*?)` \| `(.*)` \|$", PLAYED, re.M)
LEFT_OUT = "..."


@pytest.fixture(scope="module")
def served():
    """The server of the page's command, at a free port, and its client."""
    script, command, *options = shlex.split(re.search(r"^python scripts/(.*)$", PAGE, re.M)[1])
    given = dict(option.removeprefix("--").split("=", 1) for option in options)
    assert (script, command, given.pop("port")) == ("serve.py", "env", "8081")
    server, _ = make_server(EnvOptions(**given, port=0))
    with server, httpx.Client(base_url=server.url) as http:
        yield server.url, http


def test_the_calls_of_the_page_are_answered_as_it_says(served):
    assert len(CALLS) == 10
    number = "7"
    for call, body, answer in CALLS:
        path = call.removeprefix("POST ")
        content = re.sub(r'"id": 7\b', f'"id": {number}', body)
        told = served[1].post(path, content=content, headers={"Content-Type": "application/json"})
        if path == "/create":
            number = str(told.json()["id"])
        expected = re.escape(re.sub(r"\b7\b", number, answer)).replace(re.escape(LEFT_OUT), ".*")
        assert re.fullmatch(expected, told.text), (call, body, told.text)


def test_the_code_of_the_page_runs(served, capsys):
    code = re.search(r"^```py\n(.*?)^```$", PAGE, re.M | re.S)[1]
    assert "http://127.0.0.1:8081" in code
    exec(code.replace("http://127.0.0.1:8081", served[0]), {})
    assert capsys.readouterr().out.endswith("Goal: craft blue dye.\n")


def test_the_tables_of_the_page_are_those_of_the_code():
    settings = {field.name: field.default for field in dataclasses.fields(AgentGym)}
    for name, default in re.findall(r"^\| `(\w+)` \| (\S*) ?\| ", PAGE, re.M):
        given = settings.pop(name)
        assert default.strip("`") == ("" if given is dataclasses.MISSING else f"{given!r}".removesuffix(".0"))
    assert not settings
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (yes|no) \| ", PAGE, re.M)
    assert rows == [(name, str(form.rounds), "yes" if form.deterministic else "no")
                    for name, form in FORMATS.items()]
    failures = {status for status in Status if not status.trusted} - {Status.CRASHED}
    named = re.search(r"^\| status \| when \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.M)[1]
    assert {status for status in Status if status in named} == failures
    assert f"{LONGEST_ACTION:,} characters" in PAGE
