"""Kernels on the GPU against float64: a case of each in bfloat16; `scripts/gpu_check.sh --stages=a` runs all
of them."""
import pytest

from tests.gpu.exact import attention, experts, policy
from tests.gpu.exact.check import BFLOAT16, FLOAT32

pytestmark = pytest.mark.gpu
HARDEST = ("packed segments and padding", "empty experts", "one query over a cache")
CHECKS = [check for check in (*attention.checks(), *experts.checks())
          if check.precision is BFLOAT16 and any(name in check.name for name in HARDEST)]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_kernel_and_its_gradients_are_those_of_float64(check, rehearsed):
    if rehearsed and check.gpu_only:
        pytest.skip("its library is not on this machine")
    errors = check.errors()
    assert max(errors.values()) <= check.precision.tolerance, errors


def test_the_engines_logprobs_are_those_of_a_float64_model():
    check, = (
        check for check in policy.checks() if check.name == "paged decode of a tiny MoE, padded, float32")
    assert check.precision is FLOAT32
    errors = check.errors()
    assert max(errors.values()) <= check.precision.tolerance, errors
