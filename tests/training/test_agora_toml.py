"""Agora EX's TOML, to the letter but for a tiny model: trained against the task app in a process of its own,
judged by a small model behind our own endpoint, and by somebody in a browser."""
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time

import pytest

from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.judges.kept import KeptVerdicts
from jaxrl_moe.judges.questions import rubric_question
from jaxrl_moe.judges.records import Ask, Work
from jaxrl_moe.judges.rubrics import read_rubrics
from jaxrl_moe.serving.tasks.agora.texts import AgoraTexts
from tests.helpers.chromium import PROGRAM, chromium
from tests.helpers.judges_page import come_in, send
from tests.helpers.processes import ROOT
from tests.helpers.runs import rows
from tests.helpers.seed_texts import AGORA_TOML

STEPS = int(os.environ.get("AGORA_STEPS", 2))  # of the TOML's 12
EPISODES = 32  # of a step: 2 batches of 16
KEY = "sk_env_of_a_test"
SCRATCH = dict(vocab_size=300, hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=32,
               num_experts=4, intermediate_size=64, context=4096)
RUBRIC = read_rubrics()["agora_text"]
SCORES = (0.0, 0.25, 0.5, 0.75, 1.0)
JUDGE = """from jaxrl_moe.config import base


def get_config():
    config = base()
    config.run_dir = {folder!r} + "/judge"
    config.model.path = {folder!r} + "/judge/base"
    config.scratch.update(vocab_size=1000, hidden_size=128, num_layers=2, num_experts=4,
                          intermediate_size=128, context=8192, initializer_range=0.05)
    config.sft.path = {folder!r} + "/verdicts.jsonl"
    config.sft.steps = 100
    config.sft.sequences_per_step = 8
    config.sft.learning_rate = 3e-3
    config.sft.max_tokens = 2048
    config.train.tokens_per_micro_batch = 16384
    config.logging.tensorboard = False
    return config
"""
pytestmark = pytest.mark.slow


@contextlib.contextmanager
def serving(folder, name, *options, said=r"(http://127\.0\.0\.1:\d+)"):
    """The URL of scripts/serve.py with options, once it has printed it."""
    log = folder / f"{name}.log"
    command = [sys.executable, "scripts/serve.py", *options, f"--port={free_port()}"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=out, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 180
        while not (found := re.search(said, log.read_text())):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield found[1]
    finally:
        process.terminate()
        process.wait(60)


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "ENVIRONMENT_API_KEY": KEY}


def command(folder, app):
    """The seed's own command line, with what makes the model a tiny one."""
    (folder / "agora.toml").write_text(AGORA_TOML)
    (folder / ".env").write_text(f"ENVIRONMENT_API_KEY={KEY}\n")
    tiny = [f"--config.scratch.{name}={value}" for name, value in SCRATCH.items()]
    return [sys.executable, "scripts/train.py", "--type", "rl", "--config", f"{folder}/agora.toml",
            "--task-url", app, "--env-file", f"{folder}/.env", f"--config.run_dir={folder}/run",
            f"--config.model.path={folder}/base", *tiny, f"--config.train.steps={STEPS}",
            "--config.rollout.max_tokens=96", "--config.endpoint.port=0",
            "--config.logging.tensorboard=false"]


def check_run(folder):
    """Of a run that has ended: each rollout stands once, and none has failed; returns their rows."""
    drawn = rows(folder / "run/trajectories.jsonl")
    assert len(drawn) == STEPS * EPISODES
    assert len({(row["step"], row["sequence"], row["sample"]) for row in drawn}) == len(drawn)
    assert {row["outcome"] for row in drawn} <= {"finished", "truncated"}
    assert KEY not in (folder / "run/trajectories.jsonl").read_text() + (folder / "train.log").read_text()
    return drawn


@pytest.fixture(scope="module")
def small_judge(tmp_path_factory):
    """A folder with a model that has learnt to answer as a judge does, whatever it is shown."""
    folder = tmp_path_factory.mktemp("judge")
    generator = random.Random(0)
    with (folder / "verdicts.jsonl").open("w") as file:
        for seed in range(384):
            text = generator.randbytes(generator.randrange(160)).decode(errors="replace")  # as it will see
            task = AgoraTexts().open(seed).begin()[-1]["content"]
            asked = rubric_question(Work(task, (text,)), Ask(RUBRIC), False)
            scores = {each.id: generator.choice(SCORES if each.scale == "bounded" else (0, 1))
                      for each in RUBRIC.criteria}
            answer = json.dumps({"rationale": "It is so.", "scores": scores})
            messages = [*asked.messages, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages}) + "\n")
    (folder / "recipe.py").write_text(JUDGE.format(folder=str(folder)))
    subprocess.run([sys.executable, "scripts/sft.py", f"--config={folder}/recipe.py"], cwd=ROOT,
                   env=environment(), check=True)
    return folder / "judge/sft/model"


@pytest.mark.timeout(3600)
def test_the_seeds_toml_trains_on_what_a_small_model_judges(small_judge, tmp_path):
    kept = tmp_path / "verdicts.sqlite"
    with (serving(tmp_path, "model", f"--model={small_judge}", "--name=judge", "--max_prompt_tokens=4096",
                  "--max_tokens=256") as endpoint,
          serving(tmp_path, "judges", "judge", f"--llm_url={endpoint}/v1", "--llm_model=judge",
                  "--llm_temperature=0.5", f"--cache={kept}") as judges,
          serving(tmp_path, "app", "task-app", "--name=agora_ex_text", "--judge_provider=model",
                  f"--judge_url={judges}") as app,
          (tmp_path / "train.log").open("w") as log):
        subprocess.run(command(tmp_path, app), cwd=ROOT, env=environment(), stdout=log,
                       stderr=subprocess.STDOUT, check=True)
    stored = [json.loads(text) for text in verdicts(kept)]
    by_raw = {verdict["details"]["raw"]: verdict for verdict in stored}
    for row in check_run(tmp_path):
        told = json.loads(row["notes"]["judge"])
        verdict = by_raw[told["details"]["raw"]]
        scores = json.loads(verdict["details"]["raw"])["scores"]
        assert row["reward"] == pytest.approx(RUBRIC.total(scores), rel=1e-6)
    assert len({row["reward"] for row in check_run(tmp_path)}) > 5  # the model does not say one thing alone


def verdicts(path):
    """The JSON of all verdicts in a file."""
    kept = KeptVerdicts(str(path))
    try:
        return [text for (text,) in kept._file.execute("SELECT verdict FROM verdicts")]
    finally:
        kept.close()


@pytest.mark.timeout(3600)
@pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium on this machine")
def test_the_seeds_toml_trains_on_what_people_answer_in_a_browser(tmp_path):
    queue = f"--queue=sqlite:///{tmp_path}/queue.db"
    added = subprocess.run([sys.executable, "scripts/judges.py", queue, "--add_judge=ada"], cwd=ROOT,
                           env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    with (serving(tmp_path, "judges", "judge", queue) as judges,
          serving(tmp_path, "page", "judge-page", queue) as page,
          serving(tmp_path, "app", "task-app", "--name=agora_ex_text", f"--judge_url={judges}") as app,
          (tmp_path / "train.log").open("w") as log,
          chromium(tmp_path / "profile") as tab):
        run = subprocess.Popen(command(tmp_path, app), cwd=ROOT, env=environment(), stdout=log,
                               stderr=subprocess.STDOUT)
        try:
            come_in(tab, page, max(added.stdout.split(), key=len))
            while run.poll() is None:
                rate(tab)
        finally:
            run.kill()
    assert run.returncode == 0, (tmp_path / "train.log").read_text()[-2000:]
    subprocess.run([sys.executable, "scripts/judges.py", queue, "--export=jsonl",
                    f"--out={tmp_path}/answers.jsonl"], cwd=ROOT, env=environment(), check=True)
    questions = {record["id"]: record for record in rows(tmp_path / "answers.jsonl")
                 if record["record"] == "question"}
    for row in check_run(tmp_path):
        (told,) = json.loads(json.loads(row["notes"]["judge"])["details"]["raw"])
        (answer,) = questions[told["question"]]["answers"]
        assert answer["judge"] == "ada"
        assert row["reward"] == pytest.approx(RUBRIC.total(RUBRIC.checked(answer["scores"])), rel=1e-6)


def rate(tab):
    """Rates what is shown by keys, as the length of its source says; does nothing where nothing is there."""
    ready = "!!document.querySelector('.form') && !document.querySelector('.submit').disabled"
    if not tab.evaluate(ready):
        time.sleep(0.1)
        return
    length = tab.evaluate("document.querySelector('.judging').innerText.length")
    for place in range(tab.evaluate("document.querySelectorAll('.criteria > *').length")):
        tab.press(str((length >> place) % 2))  # a digit that both scales have
    send(tab)
