"""The engines of games in other processes: a test is skipped where they are not installed, and for no other
reason."""
import importlib.util
import pathlib
import shutil

import pytest

from jaxrl_moe.envs.text.alfworld.task import ENVIRONMENT

ROOT = pathlib.Path(__file__).parents[2]


def skip_without_engine(name):
    """Of the task of this name, or spelt with settings in brackets."""
    if name.startswith("sciworld"):
        if shutil.which("java") is None or importlib.util.find_spec("scienceworld") is None:
            pytest.skip("ScienceWorld needs Java and the extra agents")
    if name.startswith("alfworld") and not (ROOT / ENVIRONMENT / "bin/python").exists():
        pytest.skip(f"needs {ENVIRONMENT}: make alfworld")
