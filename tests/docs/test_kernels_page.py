"""The page on kernels: its code runs, its routes answer, its commands have the options that it names, and
slime's flags become what its table says."""
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from bridges.dialects import READ
from jaxrl_moe.config import known_keys
from jaxrl_moe.serving.buffer.groups import Rules
from jaxrl_moe.serving.buffer.launch import BufferOptions
from tests.helpers.buffers import buffer_server

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kernels.md").read_text()
COMMANDS = [shlex.split(line) for line in re.findall(r"^(python scripts/[^`\n]*)$", PAGE, re.M)]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with buffer_server(tmp_path_factory.mktemp("b") / "b.sqlite", rules=Rules(4)) as (http, _):
        yield http


def test_the_code_of_the_page_runs_and_prints_what_it_says(served, capsys):
    code = re.search(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)[1]
    exec(code.replace("http://127.0.0.1:8889", str(served.base_url)), {})
    assert capsys.readouterr().out.strip() == re.search(r"^It prints `(.*)`\.$", PAGE, re.M)[1]


def test_the_routes_of_the_table_are_there(served):
    rows = PAGE.partition("| call | body |")[2].partition("\n\n")[0]
    calls = re.findall(r"^\| `(POST|GET) (/\S*)`", rows, re.M)
    assert len(calls) == 7
    for method, path in calls:
        answer = served.request(method, path, json={} if method == "POST" else None)
        assert answer.status_code not in (404, 405), (method, path)


def test_the_buffers_commands_have_the_servers_options():
    shown = [words for words in COMMANDS if words[1:3] == ["scripts/serve.py", "buffer"]]
    assert len(shown) == 2
    for words in shown:
        given = dict(word.removeprefix("--").split("=", 1) for word in words[3:])
        assert given.keys() <= set(BufferOptions.__dataclass_fields__), words
    default = BufferOptions("x")
    for name, value in re.findall(r"`--(group_timeout|accepted_share)`[^(]*\(([\d.]+)\)", PAGE):
        assert getattr(default, name) == float(value)


def test_the_launchers_options_that_the_page_names_are_its_own():
    text = (ROOT / "scripts" / "launch" / "tmux.py").read_text()
    own = set(re.findall(r'define_\w+\("(\w+)"', text)) | {"dry_run"}
    section = PAGE.partition("## All in one command")[2].partition("## The rollout buffer")[0]
    named = set(re.findall(r"`--(?:no)?(\w+)", section)) - {"buffer_url"}
    assert named <= own and {"plain", "detach", "session", "logs", "grace", "api_key_file"} <= named


def test_slimes_flags_become_what_the_table_says():
    words = next(words for words in COMMANDS if words[1:3] == ["scripts/translate.py", "slime"])
    made = READ["slime"](words[3:]).values()
    named = re.search(r'`env.name="(triton_kernels\(.*?\))"`; `kernelbench`', PAGE)[1]
    assert made["env.name"] == named
    assert (made["algorithm.returns"], made["algorithm.turn_gamma"]) == ("trajectory", 0.4)
    settings = set(re.findall(r"`((?:algorithm|rollout|mesh|train|checkpoint|optimizer|logging)\.\w+)", PAGE))
    settings.discard("train.log")  # a file
    assert settings <= set(known_keys())


@pytest.mark.slow
def test_the_launcher_tells_its_options():
    done = subprocess.run([sys.executable, "scripts/launch/tmux.py", "--help"], cwd=ROOT, capture_output=True,
                          text=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": "/tmp"})
    assert done.returncode == 0 and "--kernels_option" in done.stdout and "--plain" in done.stdout
