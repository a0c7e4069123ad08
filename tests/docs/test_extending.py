"""The worked examples of docs/extending run as they stand there."""
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs" / "extending").glob("*.md") if path.name != "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_files_of_a_page_do_what_its_check_says(page, tmp_path):
    assert "check.py" in write_files(page, tmp_path), "every page ends in a check"
    run(["check.py"], tmp_path)


def test_the_quickstart_with_the_pages_task_starts(tmp_path):
    page = ROOT / "docs" / "extending" / "task.md"
    write_files(page, tmp_path)
    (rows,) = blocks(page, "json")
    (tmp_path / "words.jsonl").write_text(rows)
    (command,) = [text for text in blocks(page, "") if "configs/quickstart.py" in text]
    setting, python, script, recipe, *options = shlex.split(command.replace("\\\n", " "))
    assert (setting, python, options[-1]) == ("PYTHONPATH=.", "python", "--dry_run")
    told = run([ROOT / script, recipe.replace("=", f"={ROOT}/"), *options], tmp_path)
    assert "Nothing speaks against it" in told and "SFT" not in told


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_no_line_of_an_example_is_over_110_columns(page):
    lines = "\n".join(blocks(page)).splitlines()
    assert lines and not [line for line in lines if len(line) > 110]


def blocks(page, language=None):
    """The texts of a page's blocks, of all or of those in a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for name, text in found if language in (None, name)]


def write_files(page, folder):
    """The names of those of its python blocks that say one."""
    files = dict(re.findall(r"\A# (\S+\.py)\n(.*)\Z", text, re.DOTALL)[0] for text in blocks(page, "python"))
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return files


def run(arguments, folder):
    """What Python prints."""
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": f"{folder}:{ROOT}"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_page_is_in_the_table_of_contents():
    contents = (ROOT / "docs" / "extending" / "README.md").read_text()
    assert all(f"({page.name})" in contents for page in PAGES)
