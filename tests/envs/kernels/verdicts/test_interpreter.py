"""What Triton's interpreter cannot do by itself: bfloat16, triton.autotune, and a GPU that a candidate
names."""
import pytest

from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Fault
from tests.helpers.kernel_cheats import HONEST, RELU2, candidate
from tests.helpers.kernel_judges import NEEDED, evaluator

PROBLEM = Judged(RELU2, ({},))
BFLOAT16 = Judged(RELU2.replace("torch.randn(ROWS, COLUMNS)",
                                "torch.randn(ROWS, COLUMNS).bfloat16()").replace(
    "torch.relu(x) * self.weight", "(torch.relu(x) * self.weight.bfloat16())"), ({},))
TUNED = HONEST.replace("@triton.jit", '''@triton.autotune(configs=[triton.Config({"BLOCK": 32}),
                          triton.Config({"BLOCK": OTHER}, num_warps=8)], key=["columns"])
@triton.jit''').replace(", BLOCK=32)", ")")
DOT = '''
import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return x @ x


def get_inputs():
    return [torch.randn(16, 16).bfloat16()]


def get_init_inputs():
    return []
'''
DOT_KERNEL = '''
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def product(x_ptr, out_ptr):
    at = tl.arange(0, 16)
    places = at[:, None] * 16 + at[None, :]
    x = tl.load(x_ptr + places)
    tl.store(out_ptr + places, tl.dot(x, x).to(tl.bfloat16))


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        product[(1,)](x, out)
        return out
'''


@pytest.fixture(scope="module")
def judge():
    with evaluator() as made:
        yield made


@NEEDED
def test_sums_and_products_of_bfloat16_are_those_of_torch(judge):
    assert judge.verdict(BFLOAT16, HONEST, 1).correct
    assert judge.verdict(BFLOAT16, HONEST.replace("0.0) * w", "0.0) * w * 1.05"), 1).fault == Fault.MISMATCH
    assert judge.verdict(Judged(DOT, ({},)), DOT_KERNEL, 1).correct


@NEEDED
def test_each_configuration_of_autotune_has_its_turn(judge):
    assert judge.verdict(PROBLEM, TUNED.replace("OTHER", "64"), 1).correct
    verdict = judge.verdict(PROBLEM, TUNED.replace("OTHER", "16"), 1)  # too few for a row
    assert (verdict.fault, verdict.trials) == (Fault.MISMATCH, 1)


@NEEDED
@pytest.mark.parametrize("lines", [
    "assert x.is_cuda\nreturn right(x.cuda().to('cuda:0'), self.weight)",
    "out = torch.empty(x.shape, device='cuda')\nreturn right(x, self.weight)",
    "out = torch.empty_like(x, device=torch.device('cuda'))\nreturn right(x, self.weight)",
    "with torch.cuda.device(torch.cuda.current_device()):\n    return right(x, self.weight)",
    "n = torch.cuda.get_device_properties(x.device).multi_processor_count\nassert n\nreturn right(x, "
                                   "self.weight)"])
def test_a_candidate_may_name_a_gpu(lines, judge):
    verdict = judge.verdict(PROBLEM, candidate(lines), 1)
    assert verdict.correct, verdict


@NEEDED
@pytest.mark.parametrize("where", ["triton.language.extra", "triton.language.extra.cuda"])
@pytest.mark.parametrize("call, reference", [
    ("libdevice.tanh(x)", "torch.tanh(x)"), ("libdevice.pow(w, x)", "torch.pow(self.weight, x)"),
    ("libdevice.erf(x) + libdevice.expm1(x)", "torch.erf(x) + torch.expm1(x)"),
    ("libdevice.rint(x * 4)", "torch.round(x * 4)"), ("libdevice.fmod(x, 0.25)", "torch.fmod(x, 0.25)"),
    ("tl.where(libdevice.isnan(x), 0.0, x)", "x.clone()")])
def test_functions_of_cuda_are_those_of_torch(where, call, reference, judge):
    problem = Judged(RELU2.replace("torch.relu(x) * self.weight", reference), ({},), trials=2)
    source = HONEST.replace("tl.maximum(x, 0.0) * w", call).replace(
        "import triton.language as tl", f"import triton.language as tl\nfrom {where} import libdevice")
    verdict = judge.verdict(problem, source, 1)
    assert verdict.correct, verdict


@NEEDED
def test_functions_of_cuda_that_nothing_here_has_say_so(judge):
    source = HONEST.replace("tl.maximum(x, 0.0) * w", "libdevice.tgamma(x)").replace(
        "import triton.language as tl",
        "import triton.language as tl\nfrom triton.language.extra import libdevice")
    verdict = judge.verdict(PROBLEM, source, 1)
    assert verdict.fault == Fault.RAISED
    assert "libdevice.tgamma cannot be run where there is no GPU" in verdict.message
