"""The script that writes rows of kernels: what it writes and says, and what it refuses."""
import os
import pathlib
import re
import subprocess
import sys

from jaxrl_moe.data.rows import read_rows
from tests.helpers.kernels import PROBLEM

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*options):
    return subprocess.run([sys.executable, "scripts/kernel_rows.py", *options], cwd=ROOT, capture_output=True,
                          text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_it_writes_the_rows_of_a_split_and_says_how_many(tmp_path):
    done = run("--split=test", f"--out={tmp_path / 'rows.parquet'}")
    written = read_rows(str(tmp_path / "rows.parquet"))
    assert done.returncode == 0 and f"{len(written)} rows of ours." in done.stdout
    extras = [row.values["extra_info"] for row in written if row.values["label"]]
    assert [extra["data_source"] for extra in extras] == ["jaxrl_moe"] * len(written) != []


def test_problems_without_a_solution_are_no_conversations_and_it_says_so_in_one_paragraph(tmp_path):
    (tmp_path / "level1").mkdir()
    (tmp_path / "level1" / "1_Twice.py").write_text(PROBLEM)
    done = run(f"--problems={tmp_path}", "--form=sft", "--split=all", f"--out={tmp_path / 'rows.jsonl'}")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "kernelbench/level1/1_Twice has no solution" in " ".join(done.stderr.split())
    assert not (tmp_path / "rows.jsonl").exists()


def test_the_commands_of_the_page_and_of_the_recipes_have_the_scripts_options():
    script = (ROOT / "scripts" / "kernel_rows.py").read_text()
    own = set(re.findall(r'(?:define_\w+|DEFINE_\w+)\("(\w+)"', script))
    pages = [ROOT / "docs" / "kernels.md", *(ROOT / "configs" / "kernels").glob("*.py"),
             ROOT / "scripts" / "kernel_rows.py"]
    text = "".join(page.read_text() for page in pages)
    commands = re.findall(r"python scripts/kernel_rows.py (.*)", text)
    assert len(commands) > 9
    for command in commands:
        assert set(re.findall(r"--(\w+)", command)) <= own, command
