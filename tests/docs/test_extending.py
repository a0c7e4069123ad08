"""The worked examples of docs/extending run as they stand there."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs" / "extending").glob("*.md") if path.name != "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_files_of_a_page_do_what_its_check_says(page, tmp_path):
    blocks = re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    for name, text in blocks:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert "check.py" in dict(blocks), "every page ends in a check"
    done = subprocess.run([sys.executable, "check.py"], cwd=tmp_path, env=environment(tmp_path),
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def environment(folder):
    return os.environ | {"PYTHONPATH": f"{folder}:{ROOT}"}


def test_every_page_is_in_the_table_of_contents():
    contents = (ROOT / "docs" / "extending" / "README.md").read_text()
    assert all(f"({page.name})" in contents for page in PAGES)
