"""The script that keeps the judges' queue, as a user meets it."""
import json
import os
import pathlib
import re
import subprocess
import sys

from jaxrl_moe.judges.queue.sql import SqlQueue
from tests.helpers.judged import BY_RUBRIC, RUBRIC, scored, work

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The script's command lines one after another in one process, since each start takes seconds.
SEVERAL = """
import contextlib, importlib.util, io, json, sys
from absl import flags
from jaxrl_moe import cli
spec = importlib.util.spec_from_file_location("judges_script", "scripts/judges.py")
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
for arguments in json.load(sys.stdin):
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            cli.parse(["judges.py", *arguments], recipe=False)
            script.main()
        print(json.dumps(["printed", printed.getvalue()]))
    except script.UserError as error:
        print(json.dumps(["refused", str(error)]))
"""


def run(*command, text=""):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, input=text,
                          capture_output=True, text=True)


def several(*lines):
    """[("printed" or "refused", text)] of command lines."""
    done = run("-c", SEVERAL, text=json.dumps(lines))
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_the_script_adds_a_judge_and_says_their_token(tmp_path):
    done = run("scripts/judges.py", f"--queue=sqlite:///{tmp_path}/queue.db", "--add_judge=ann")
    assert done.returncode == 0, done.stderr
    queue = SqlQueue(f"sqlite:///{tmp_path}/queue.db")
    assert queue.login(re.search(r"once: (\S+)\n", done.stdout)[1]) == "ann"
    queue.close()


def test_a_queue_is_kept_from_the_command_line(tmp_path):
    url = f"--queue=sqlite:///{tmp_path}/queue.db"
    queue = SqlQueue(url.removeprefix("--queue="), gold_share=1.0)
    token = queue.add_judge("ann")
    gold = tmp_path / "gold.jsonl"
    row = {"work": work(1).plain(), "rubric": RUBRIC.plain(), "scores": {"layout": 0.5, "title": 1}}
    gold.write_text(json.dumps(row) + "\n\n")
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(row) + "\n" + json.dumps(row | {"scores": {"layout": 0.5}}))
    queue.add_gold(work(3), BY_RUBRIC, row["scores"])
    queue.put(work(2), BY_RUBRIC)
    queue.answer("ann", queue.lease("ann", 60).token, scored(0.5))
    out = tmp_path / "all.jsonl"
    answers = several(
        [url, "--progress"], [url, "--agreement"], [url, f"--add_gold={gold}"],
        [url, "--export=jsonl", f"--out={out}"], [url, "--remove_judge=ann"],
        [url, f"--add_gold={bad}"], [], [url], [url, "--progress", "--agreement"],
        [url, "--progress", "--out=x"], [url, "--export=jsonl"], ["--queue=mysql://x/y", "--progress"],
        [f"--queue=sqlite:///{tmp_path}/none/q.db", "--progress"],
        [url, "--export=argilla", "--argilla_user=bob=x", "--out=x"])
    words = ["that run waits for: 1", "ann answered right: 1 of 1", "1 gold items", "5 records",
             "judge no more",
             "bad.jsonl, line 2: The scores lack title", "--queue is required", "Give one of", "there are 2",
             "--out has no effect", "--out is required", "write sqlite:///PATH", "does not exist",
             "no judge called 'bob'"]
    for index, (said, word) in enumerate(zip(answers, words, strict=True)):
        assert said[0] == ("printed" if index < 5 else "refused") and word in said[1], said
    assert "Waiting: 1" in answers[0][1] and "Answers of ann: 1" in answers[0][1]
    assert len(out.read_text().splitlines()) == 5
    assert queue.login(token) is None
    queue.close()
