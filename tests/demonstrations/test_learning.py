"""What the script writes is learnt from: a small model plays held-out goals after it, and GRPO over a server
of AgentGym's protocol goes on from there."""
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from jaxrl_moe.data.conversations import row_messages
from jaxrl_moe.data.rows import read_rows
from jaxrl_moe.demonstrations.from_run import Choice, collect
from jaxrl_moe.demonstrations.make import Wanted, make, make_prompts
from tests.helpers.runs import rows

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
GAME = "textcraft(recipes='small', max_depth=1, max_turns=8)"


@pytest.fixture
def server():
    """Its URL."""
    process = subprocess.Popen([sys.executable, "scripts/serve.py", "env", f"--name={GAME}", "--port=0"],
                               cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    yield line.split()[-1]
    process.terminate()
    process.wait()


def train(folder, url, *options):
    """Held-out scores of SFT and of RL, in the order of their steps."""
    files = {"path": "prompts", "eval_path": "held_out"}
    settings = {f"data.{name}": folder / f"{file}.jsonl" for name, file in files.items()}
    settings |= {"run_dir": folder / "run", "sft.path": folder / "rows.jsonl", "data.generate": "",
                 "env.name": f"agentgym(env='textcraft', url='{url}', max_turns=8)",
                 "data.max_prompt_tokens": 192, "episodes.max_tokens": 320}
    given = [f"--config.{name}={value}" for name, value in settings.items()]
    recipe = "--config=configs/agents/agentgym_grpo.py:tiny"
    done = subprocess.run([sys.executable, "scripts/train.py", recipe, *given, *options], cwd=ROOT,
                          env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return [[row["eval/pass_at_1"] for row in rows(path / "metrics.jsonl") if "eval/pass_at_1" in row]
            for path in (folder / "run" / "sft", folder / "run")]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_model_that_learnt_from_the_files_plays_held_out_goals_and_grpo_over_http_goes_on(server, tmp_path):
    make(Wanted(GAME, 280, thoughts=False), tmp_path / "rows.jsonl")
    make_prompts(Wanted(GAME, 280), tmp_path / "prompts.jsonl")
    make_prompts(Wanted(GAME, 64, split="test"), tmp_path / "held_out.jsonl")
    learnt = {json.loads(line)["id"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()}
    held_out = {json.loads(line)["id"] for line in (tmp_path / "held_out.jsonl").read_text().splitlines()}
    assert not learnt & held_out
    fine_tuned, trained = train(
        tmp_path, server, "--config.sft.steps=90", "--config.sft.sequences_per_step=12",
        "--config.rollout.prompts_per_step=8", "--config.train.steps=8", "--config.eval.every=8")
    assert fine_tuned[0] < 0.05 and fine_tuned[-1] > 0.15, fine_tuned  # 0.00 and 0.30 were seen
    assert trained[-1] > 0.15, (fine_tuned, trained)  # eight steps say nothing about a rise
    told = collect(Choice(tmp_path / "run", min_reward=1.0), tmp_path / "own.jsonl")
    own = read_rows(str(tmp_path / "own.jsonl"))
    assert all(row.values["reward"] == 1.0 and sum(row_messages(row).trained) for row in own)
    counts = re.search(r"token by token: (\d+); as drawn in text, in other tokens: (\d+)", told)
    assert sum(map(int, counts.groups())) == len(own) > 10, told
