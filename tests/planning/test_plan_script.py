"""scripts/plan.py as a user meets it: compiled for the chip where its compiler is at hand, plainly an
estimate where it is not."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.planning import target

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def model(tmp_path):
    shape = ModelConfig("qwen3_moe", 66, 32, 2, 4, 2, 8, 48, (True,) * 2, (0,) * 2, num_experts=4,
                        num_experts_per_tok=2, moe_intermediate_size=16, norm_topk_prob=True)
    (tmp_path / "config.json").write_text(json.dumps(shape.to_hf()))
    return f"--config.model.path={tmp_path}"


def plan(*options, **variables):
    environment = {
        name: value for name, value in os.environ.items()
        if name not in ("XLA_FLAGS", "XLA_CLIENT_MEM_FRACTION")
    }
    small = ("--config.rollout.max_tokens=32", "--config.data.max_prompt_tokens=32",
             "--config.rollout.slots=4", "--config.train.tokens_per_micro_batch=256")
    return subprocess.run(
        [sys.executable, "scripts/plan.py", "--config=configs/gsm8k/grpo.py", *small, *options], cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)} | variables, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not target.at_hand(), reason="The compiler for GPUs is not here: make target.")
def test_a_plan_is_compiled_for_the_chip_and_lists_its_kernels(model):
    done = plan(model, "--chip=A100", "--kernels", XLA_CLIENT_MEM_FRACTION="0.5")
    assert done.returncode == 0, done.stderr
    for words in ("Compiled for NVIDIA A100-SXM4-80GB", "79.2 GiB each, 39.6 of them for JAX", "plan: FITS",
                  "(compiled for NVIDIA A100", "one decode step of 4 slots on A100", "kernels"):
        assert words in done.stdout, words
    assert "derived on a CPU" not in done.stdout
    assert "and on a CPU also" not in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(target.installed(), reason="The compiler for GPUs is installed beside JAX.")
def test_without_the_compiler_a_plan_says_that_it_is_an_estimate(model, tmp_path):
    done = plan(model, JAXRL_MOE_TARGET=str(tmp_path / "absent"))
    assert done.returncode == 0, done.stderr
    assert "Derived on a CPU" in done.stdout
    assert "make target" in done.stdout
    assert "estimate: FITS" in done.stdout


@pytest.mark.skipif(target.installed(), reason="The compiler for GPUs is installed beside JAX.")
@pytest.mark.parametrize("option, variables, message", [
    ("--kernels", {}, "`make target`"), ("--chip=H300", {}, "There is no chip 'H300'"),
    ("--chip=H200", {"XLA_CLIENT_MEM_FRACTION": "2"}, "is no share of a GPU's memory")])
def test_what_cannot_be_planned_is_refused_in_a_paragraph(model, tmp_path, option, variables, message):
    done = plan(model, option, JAXRL_MOE_TARGET=str(tmp_path / "absent"), **variables)
    assert done.returncode == 1 and done.stderr.startswith("Error:") and "Traceback" not in done.stderr
    assert message in " ".join(done.stderr.split())
