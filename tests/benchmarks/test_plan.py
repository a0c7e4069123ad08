"""Plans in processes of their own: bytes predicted beside those measured, and what the 30B's recipe leaves
free."""
import json
import sys

import pytest

from benchmarks.plan import GIB, SHAPES, in_process
from jaxrl_moe.planning import target

pytestmark = pytest.mark.slow


def test_bfloat16_takes_no_more_than_float32_and_the_rest_of_it_is_the_cpus():
    one, other = (in_process("temporaries", "MoE, LoRA, remat none", dtype)
                  for dtype in ("float32", "bfloat16"))
    assert one["gradients"][0] == one["gradients"][1] and one["decode"][0] == one["decode"][1]
    here, elsewhere = other["gradients"]
    assert elsewhere <= here <= one["gradients"][0]
    here, elsewhere = other["decode"]
    assert here - elsewhere >= 1.5 * other["kv"]  # most of the pool in float32, which is twice its bytes
    assert other["published"] == 0 and other["kv"] == one["kv"] / 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident sets are read from /proc")
@pytest.mark.parametrize("name", SHAPES)
def test_predicted_bytes_are_within_a_tenth_of_the_measured_peak(name):
    predicted = in_process("predict", name)
    for program in ("gradients", "apply", "decode"):
        arguments, extra = predicted[program]
        peak = arguments + in_process("measure", name, program)["extra"]
        assert peak < 2**30 or arguments + extra == pytest.approx(peak, rel=0.1), program
    assert sum(predicted["gradients"]) > 2**30


@pytest.mark.skipif(not target.at_hand(), reason="The compiler for GPUs is not here: make target.")
def test_the_30bs_recipe_fits_one_h200_with_25_gib_left():
    plan = in_process("plan", json.dumps(["qwen3_30b_a3b_grpo_h200", "qwen3_30b_a3b", {}, {}]))
    assert plan["temporary"] < 12 * GIB
    assert plan["room"] - max(plan["update"], plan["rollout"]) >= 25 * GIB
