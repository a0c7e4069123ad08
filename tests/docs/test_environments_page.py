"""The page on environments: the four ways to bring one run as they stand there; its links lead somewhere, its
commands have the options that they name, and so have those of the page on trajectories."""
import json
import pathlib
import re
import shlex
import subprocess
import sys
import threading
import time

import pytest

from jaxrl_moe.config import known_keys
from jaxrl_moe.data.conversations import row_messages
from jaxrl_moe.data.rows import Row
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.demonstrations.make import Wanted
from jaxrl_moe.demonstrations.oracles import ORACLES
from jaxrl_moe.envs import TASKS, make_task
from jaxrl_moe.rollout.agents.sessions import AgentSessions
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.types import Action, Prompt
from tests.helpers import templates
from tests.helpers.scripted_texts import Scripted
from tests.helpers.serving import serving
from tests.helpers.session_plans import plan
from tests.helpers.templates import byte_level

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "agents.md"
TEXTS = {page: page.read_text() for page in (PAGE, ROOT / "docs" / "agents" / "trajectories.md")}
BLOCKS = dict(re.findall(r"^```python\n# ((?:plays )?\S+?\.py)\n(.*?)^```$", TEXTS[PAGE], re.M | re.S))
KEY = "a-key"


def test_every_block_of_the_page_is_run_by_a_test_here():
    assert set(BLOCKS) == {"guessing.py", "plays guessing.py", "frozen.py", "guess_server.py", "agent.py",
                           "prompts_of_agentgym.py"}
    assert TEXTS[PAGE].count("```python") == len(BLOCKS)


def test_the_class_of_the_page_is_a_task(tmp_path, monkeypatch):
    (tmp_path / "guessing.py").write_text(BLOCKS["guessing.py"])
    monkeypatch.syspath_prepend(str(tmp_path))
    exec(BLOCKS["plays guessing.py"], {})


def test_the_gymnasium_of_the_page_is_played(capsys):
    pytest.importorskip("gymnasium")
    exec(BLOCKS["frozen.py"], {})
    shown = capsys.readouterr().out
    assert "FHFH" in shown and "(Right)" in shown


def test_the_server_of_the_page_is_played_as_agentgyms():
    names = {"__name__": "guess_server"}
    exec(BLOCKS["guess_server.py"], names)
    server = names["http"].server.ThreadingHTTPServer(("127.0.0.1", 0), names["Calls"])
    server_thread = threading.Thread(target=server.serve_forever)
    server_thread.start()
    task = make_task(f"agentgym(env='textcraft', url='http://127.0.0.1:{server.server_port}')")
    env = task.open({"id": 41}, 0)
    assert env.reset()[0]["content"] == "Which number from 1 to 100 is it?"
    assert env.step(Action("Thought: half\nAction: 50", 1, False)).observation[0]["content"] == "It is lower."
    last = env.step(Action("42", 1, False))
    assert last.done and last.reward == 1.0
    task.close()
    assert not names["NUMBERS"]
    server.shutdown()
    server.server_close()
    server_thread.join()


def test_the_agent_of_the_page_plays_until_the_run_is_over(tmp_path):
    (tmp_path / "agent.py").write_text(BLOCKS["agent.py"])
    tokenizer = Tokenizer(byte_level(templates.QWEN25, "<|im_end|>"), "qwen25")
    sessions = AgentSessions()
    with (EngineFront(Scripted(tokenizer, "It is 4.")) as front,
          serving(front, tokenizer, sessions=sessions, api_key=KEY) as server):
        prompt = Prompt(tokenizer.encode("x"), {"question": "2 + 2?", "answer": "4"}, 0)
        session = sessions.open(plan(prompt=prompt))
        sessions.offer(session)
        agent = subprocess.Popen([sys.executable, str(tmp_path / "agent.py")], stderr=subprocess.PIPE,
                                 env={"RUN_URL": server.url, "RUN_KEY": KEY})
        until = time.monotonic() + 60
        while session.outcome is None and time.monotonic() < until:
            time.sleep(0.05)
        sessions.end(session, "the run has its outcome")
        sessions.close()
        _, said = agent.communicate(timeout=60)
    assert agent.returncode == 0, said.decode()
    assert session.outcome.reward == 1.0 and len(session.calls) == 1


def test_items_of_agentgym_become_prompts_that_begin_as_its_trajectories_do(tmp_path):
    turns = [{"from": "human", "loss": None, "value": "Craft."},
             {"from": "gpt", "loss": False, "value": "Ok."},
             {"from": "human", "loss": None, "value": "Goal"}, {"from": "gpt", "loss": True, "value": "get"}]
    (tmp_path / "traj.json").write_text(json.dumps([{"item_id": "textcraft_3", "conversations": turns}]))
    (tmp_path / "eval.json").write_text(json.dumps([{"item_id": "textcraft_5", "conversations": None}]))
    names = {}
    exec(BLOCKS["prompts_of_agentgym.py"], names)
    names["convert"](tmp_path / "traj.json", tmp_path / "eval.json", tmp_path / "rows.jsonl")
    (row,) = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    make_task("agentgym(env='textcraft', url='http://127.0.0.1:1')").check_row(row, 0)
    learnt = row_messages(Row({"conversations": turns}, "it", 0))
    assert row["prompt"] == learnt.messages[:2] and learnt.trained == [False, False, False, True]


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_the_links_of_a_page_lead_somewhere(page):
    assert f"({page.relative_to(ROOT / 'docs')})" in (ROOT / "docs" / "README.md").read_text()
    for link in re.findall(r"\]\(([^)]+)\)", TEXTS[page]):
        assert (page.parent / link).is_file(), link


def test_the_environments_of_the_page_are_tasks():
    named = re.findall(r"^\| `(\w+)`[^|]* \| .* \|$", TEXTS[PAGE].partition("## Bring")[0], re.M)
    assert named and set(named) <= set(TASKS)


def test_the_tables_of_trajectories_are_those_of_the_code():
    text = TEXTS[ROOT / "docs" / "agents" / "trajectories.md"]
    assert re.findall(r"^\| `(\w+)` \| (.*) \|$", text.partition("Every command")[0], re.M) == [
        (name, oracle.how) for name, oracle in ORACLES.items()]
    told = dict(re.findall(r"^\| `(\w+)` \| `?(\w*)`? \| ", text, re.M))
    wanted = Wanted("", 100)
    assert [told[name] for name in ("count", "seed", "split", "format")] == [
        str(value) for value in (wanted.count, wanted.seed, wanted.split, wanted.form)]


def commands():
    for text in TEXTS.values():
        for line in re.findall(r"(?:^|`)(python scripts/[^`\n]*)", text, re.M):
            yield shlex.split(line)[1:]


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words)[8:60])
def test_a_command_has_the_options_that_it_names(words):
    script, *rest = words
    texts = [(ROOT / script).read_text()]
    if rest[0] == "env":
        rest.pop(0)
        folder = ROOT / "jaxrl_moe" / "serving" / "commands"
        texts += [(folder / name).read_text() for name in ("env.py", "common.py")]
    defined = {*re.findall(r"(?:define_\w+|DEFINE_\w+)\(\s*\"(\w+)\"", "".join(texts)), "config", "host",
               "port"}
    for option in rest:
        name, _, value = option.removeprefix("--").partition("=")
        assert name.removeprefix("config.") in known_keys() if name.startswith("config.") else name in defined
        assert not value.startswith("configs/") or (ROOT / value.partition(":")[0]).is_file()
