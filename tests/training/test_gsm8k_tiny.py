"""configs/gsm8k/tiny.py on the real rows: the marker bonus rises, 200 test rows are evaluated, the log can be
recomputed."""
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = pathlib.Path(os.environ.get("JAXRL_GSM8K", ROOT.parent / "shared" / "data" / "gsm8k"))


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "train.jsonl").exists(), reason="no GSM8K rows: set JAXRL_GSM8K to a folder "
                                                                "with train.jsonl, test.jsonl")
def test_a_tiny_moe_learns_the_answer_marker_on_gsm8k(tmp_path):
    train = DATA / "train.jsonl"
    test = DATA / "test.jsonl"
    command = [
        sys.executable, "scripts/train.py", "--config=configs/gsm8k/tiny.py",
        f"--config.run_dir={tmp_path / 'run'}", f"--config.data.path={train}",
        f"--config.data.eval_path={test}", f"--config.sft.path={train}"
    ]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    logged = rows(tmp_path / "run" / "metrics.jsonl")
    drawn = rows(tmp_path / "run" / "trajectories.jsonl")
    marker = [row["env/marker"] for row in logged if "env/marker" in row]
    assert len(marker) == 30
    assert np.mean(marker[-5:]) > np.mean(marker[:5]) + 0.1
    for row in logged:
        mine = [one for one in drawn if one["step"] == row["step"] and one["phase"] == "train"]
        assert row["reward/mean"] == pytest.approx(np.mean([one["reward"] for one in mine]))
        assert row["env/marker"] == pytest.approx(np.mean([one["info"]["marker"] for one in mine]))
    held_out = [one for one in drawn if one["phase"] == "eval"]
    assert len(held_out) == 200
    assert logged[-1]["eval/pass_at_1"] == pytest.approx(np.mean([one["info"]["correct"]
                                                                  for one in held_out]))
