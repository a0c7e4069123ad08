"""Kernels in the form of torch's Inductor, which KernelBook has, are judged as the plain ones that they
are."""
import pytest

from jaxrl_moe.envs.kernels.kernelbook import answer
from jaxrl_moe.envs.kernels.verdicts.inductor import plain
from jaxrl_moe.envs.kernels.verdicts.static import refusals
from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Fault
from tests.helpers.kernel_cheats import HONEST
from tests.helpers.kernel_judges import NEEDED, evaluator

PROBLEM = Judged('''
import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return torch.tanh(torch.relu(x)).sum(1)


def get_inputs():
    return [torch.randn(4, 6, 5)]


def get_init_inputs():
    return []
''', ({},), trials=2)
WRITTEN = '''
import torch
from torch._inductor.select_algorithm import extern_kernels
import triton
import triton.language as tl
from torch._inductor.runtime.triton_heuristics import grid
from torch._C import _cuda_getCurrentRawStream as get_raw_stream
from torch._inductor.runtime import triton_helpers
from torch._inductor.runtime.triton_helpers import libdevice, math as tl_math
import torch.nn as nn
assert_size_stride = torch._C._dynamo.guards.assert_size_stride
empty_strided_cuda = torch._C._dynamo.guards._empty_strided_cuda
reinterpret_tensor = torch.ops.inductor._reinterpret_tensor


@triton.jit
def pointwise(in_ptr, out_ptr, xnumel, XBLOCK: tl.constexpr):
    xnumel = 120
    xindex = tl.program_id(0) * XBLOCK + tl.arange(0, XBLOCK)[:]
    xmask = xindex < xnumel
    tmp0 = tl.load(in_ptr + xindex, xmask)
    tmp1 = tl.full([1], 0, tl.int32)
    tmp2 = triton_helpers.maximum(tmp1, tmp0)
    tl.store(out_ptr + xindex, libdevice.tanh(tmp2), xmask)


@triton.jit
def summed(in_ptr, out_ptr, xnumel, ynumel, XBLOCK: tl.constexpr, YBLOCK: tl.constexpr):
    x = tl.program_id(0) * XBLOCK + tl.arange(0, XBLOCK)[:, None]
    y = tl.program_id(1) * YBLOCK + tl.arange(0, YBLOCK)[None, :]
    at = tl.arange(0, 8)[None, None, :]
    inside = (x[:, :, None] < xnumel) & (y[:, :, None] < ynumel) & (at < 6)
    tmp = tl.load(in_ptr + x[:, :, None] * 30 + at * 5 + y[:, :, None], inside, other=0.0)
    whole = (x < xnumel) & (y < ynumel)
    tl.store(out_ptr + x * 5 + y, triton_helpers.promote_to_tensor(tl.sum(tmp, 2)), whole)


def call(args):
    arg0_1, = args
    args.clear()
    assert_size_stride(arg0_1, (4, 6, 5), (30, 5, 1))
    with torch.cuda._DeviceGuard(0):
        torch.cuda.set_device(0)
        buf0 = empty_strided_cuda((4, 6, 5), (30, 5, 1), torch.float32)
        stream0 = get_raw_stream(0)
        pointwise[grid(120)](arg0_1, buf0, 120, XBLOCK=64, num_warps=4, num_stages=1)
        del arg0_1
        buf1 = empty_strided_cuda((4, 1, 5), (5, 5, 1), torch.float32)
        summed[grid(4, 5)](buf0, buf1, 4, 5, XBLOCK=2, YBLOCK=4, num_warps=1, num_stages=1)
        del buf0
    return reinterpret_tensor(buf1, (4, 5), (5, 1), 0),


class ModelNew(nn.Module):

    def forward(self, input_0):
        arg0_1 = input_0
        output = call([arg0_1])
        return output[0]
'''


def test_inductor_s_names_are_gone_and_the_rest_is_let_through():
    assert refusals(WRITTEN)
    made = plain(WRITTEN)
    assert not refusals(made) and "_inductor" not in made and "_C" not in made


def test_an_answer_of_kernelbook_is_one_that_is_let_through():
    written = WRITTEN.replace("class ModelNew", "class TwiceNew")
    assert not refusals(answer(written, "Twice", "row 1"))


def test_what_is_in_no_such_form_stays_as_it_is():
    assert plain(HONEST) == HONEST
    assert plain("import torch._inductor (") == "import torch._inductor ("


def test_products_that_torch_computes_stay_refused():
    made = plain(WRITTEN.replace("del buf0\n    return", "extern_kernels.mm(buf0, buf0, out=buf1)\n    "
                                 "return"))
    assert any("extern_kernels" in sentence for sentence in refusals(made))


@NEEDED
@pytest.mark.parametrize("change, fault", [(("", ""), None), (("(4, 5)](", "(2, 5)]("), Fault.MISMATCH)])
def test_it_is_judged_by_what_it_computes(change, fault):
    with evaluator() as judge:
        assert judge.verdict(PROBLEM, WRITTEN.replace(*change), 1).fault == fault
