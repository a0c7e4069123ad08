"""The agent that docs/agents/sessions.md shows plays what it is handed until the run is over."""
import pathlib
import re
import subprocess
import sys
import time

from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.rollout.agents.sessions import AgentSessions
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.types import Prompt
from tests.helpers import templates
from tests.helpers.scripted_texts import Scripted
from tests.helpers.serving import serving
from tests.helpers.session_plans import plan
from tests.helpers.templates import byte_level

PAGE = pathlib.Path(__file__).parents[2] / "docs/agents/sessions.md"
KEY = "a-key"


def test_the_agent_of_the_page_plays_until_the_run_is_over(tmp_path):
    (code,) = re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "agent.py").write_text(code)
    tokenizer = Tokenizer(byte_level(templates.QWEN25, "<|im_end|>"), "qwen25")
    sessions = AgentSessions()
    played = []
    with (EngineFront(Scripted(tokenizer, "It is 4.")) as front,
          serving(front, tokenizer, sessions=sessions, api_key=KEY) as server):
        for answer in ("4", "5"):
            prompt = Prompt(tokenizer.encode("x"), {"question": "2 + 2?", "answer": answer}, 0)
            played.append(sessions.open(plan(prompt=prompt)))
            sessions.offer(played[-1])
        agent = subprocess.Popen([sys.executable, str(tmp_path / "agent.py")],
                                 env={"RUN_URL": server.url, "RUN_KEY": KEY}, stderr=subprocess.PIPE)
        until = time.monotonic() + 60
        while any(session.outcome is None for session in played) and time.monotonic() < until:
            time.sleep(0.05)
        for session in played:
            sessions.end(session, "the run has its outcome")
        sessions.close()
        _, said = agent.communicate(timeout=60)
    assert agent.returncode == 0, said.decode()
    assert [session.outcome.reward for session in played] == [1.0, 0.0]
    assert [len(session.calls) for session in played] == [3, 3]
