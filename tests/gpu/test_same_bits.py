"""Under deterministic flags the GPU gives the same bits again, in another process and after a kill."""
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers import tiny_run
from tests.helpers.runs import DETERMINISTIC, ROOT, assert_same_run, rows_so_far

pytestmark = pytest.mark.gpu
STEPS = 8


def start(arguments, folder, rehearsed):
    """A process of this project; compiled programs are shared, as what a compiler chooses is part of the
    bits."""
    flags = os.environ.get("XLA_FLAGS", "") + ("" if rehearsed else f" {DETERMINISTIC}")
    # the wheels of a GPU check lie on it
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {
        "PYTHONPATH": path,
        "XLA_FLAGS": flags,
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"
    }
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def ended(process):
    output = process.communicate()[0]
    assert process.returncode == 0, output[-2000:]
    return output


def test_two_processes_give_the_same_bits(tmp_path, rehearsed):
    first, second = (ended(start(["-m", "tests.gpu.bits_case"], tmp_path, rehearsed)) for _ in range(2))
    prints = [[line for line in output.splitlines() if line.startswith("fingerprint")]
              for output in (first, second)]
    assert prints[0] == prints[1] and len(prints[0]) == 1


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, rehearsed):
    files = tiny_run.make_files(tmp_path)
    recipes = {}
    for name in ("whole", "killed"):
        recipes[name] = tmp_path / f"{name}.py"
        recipes[name].write_text(
            tiny_run.RECIPE.format(files=str(files), run_dir=str(tmp_path / name), steps=STEPS))

    def train(name):
        return start(["scripts/train.py", f"--config={recipes[name]}"], tmp_path, rehearsed)

    ended(train("whole"))
    killed = train("killed")
    log = tmp_path / "killed" / "metrics.jsonl"
    while killed.poll() is None and not (log.exists() and len(rows_so_far(log)) > 3):
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert 3 < len(rows_so_far(log)) <= STEPS
    assert "Going on from the checkpoint of step" in ended(train("killed"))
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
