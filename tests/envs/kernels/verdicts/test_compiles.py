"""Kernels that Triton's interpreter runs and that no GPU would: they are compiled, and refused by name."""
import pytest

from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Fault
from tests.helpers.kernel_cheats import HONEST, KERNEL, RELU2, candidate
from tests.helpers.kernel_judges import NEEDED, evaluator

PROBLEM = Judged(RELU2, ({},), trials=1)
BODY = KERNEL[KERNEL.index("    row = "):KERNEL.index("\n\n\ndef right")]
STORE = "    tl.store(out_ptr + row * columns + at, tl.maximum(x, 0.0) * w, mask=inside)"
MATMUL = Judged('''
import torch
import torch.nn as nn

N = 16


class Model(nn.Module):
    def forward(self, x):
        return x @ x


def get_inputs():
    return [torch.randn(N, N)]


def get_init_inputs():
    return []
''', ({},), trials=1)
PRODUCT = '''
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def product(x_ptr, out_ptr, N, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    places = at[:, None] * N + at[None, :]
    inside = (at[:, None] < N) & (at[None, :] < N)
    x = tl.load(x_ptr + places, mask=inside, other=0.0)
    tl.store(out_ptr + places, tl.dot(x, x, input_precision="ieee"), mask=inside)


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        product[(1,)](x, out, x.shape[0], BLOCK=BLOCK_SIZE)
        return out
'''


def kernel(lines, store=STORE):
    """The honest candidate with lines before its store."""
    inner = "".join(f"    {line}\n" for line in lines.strip("\n").split("\n"))
    return HONEST.replace(STORE, inner + store)


# name: (source, what the message must say)
BROKEN = {
    "a break": (kernel("for i in range(3):\n    x = x + 0.0\n    if i > 5:\n        break"), "break"),
    "a list": (kernel("parts = [x]\nparts = parts + [w]\nx = parts[0] if len(parts) > 5 else x + 0.0\n"
                      "values = {'a': x}\nx = values['a']"), "Dict"),
    "a type that changes in a loop": (kernel("total = 0\nfor i in range(columns):\n    total = total + 0.5\n"
                                             "x = x + total * 0.0"), "total"),
    "a number of the module that is no constexpr": (
        kernel("x = x * ONE").replace("@triton.jit", "ONE = 1.0\n\n\n@triton.jit", 1), "ONE"),
    "types that differ by branch": (kernel("if columns > 5:\n    y = x\nelse:\n    y = 1\nx = y + 0.0"), "y"),
    "a method of no tensor": (kernel("if columns > 1000:\n    x = x.median()"), "median"),
    "three warps": (HONEST.replace("BLOCK=32", "BLOCK=32, num_warps=3"), "num_warps"),
    "a return within a loop": (kernel("for i in range(3):\n    if columns > 1000:\n        return"),
                               "return"),
    "a number where a shape is asked": (kernel("y = tl.zeros([columns * 0 + 32], tl.float32)\nx = x + y"),
                                        "constexpr"),
    "a call of Python's": (kernel("if columns > 1000:\n    x = x * float(len(str(columns)))"), "str"),
    "an assignment to an entry": (kernel("if columns > 1000:\n    x[0] = 1.0"), "__setitem__"),
}


@pytest.fixture(scope="module")
def judge():
    with evaluator(seconds=120.0, compiles=True) as made:
        yield made


@NEEDED
@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_what_only_an_interpreter_runs_is_refused_and_says_why(name, judge):
    source, said = BROKEN[name]
    verdict = judge.verdict(PROBLEM, source, 1)
    assert (verdict.fault, verdict.compiled, verdict.correct) == (Fault.NOT_COMPILED, False, False), verdict
    assert said in verdict.message and "sm_90" in verdict.message


@NEEDED
@pytest.mark.slow
def test_more_shared_memory_than_there_is_is_refused(judge):
    assert judge.verdict(MATMUL, PRODUCT.replace("BLOCK_SIZE", "16"), 1).correct
    verdict = judge.verdict(MATMUL, PRODUCT.replace("BLOCK_SIZE", "256").replace("ieee", "tf32"), 1)
    assert verdict.fault == Fault.NOT_COMPILED and "shared memory" in verdict.message


@NEEDED
def test_a_kernel_that_compiles_is_said_to_and_for_what(judge):
    verdict = judge.verdict(PROBLEM, HONEST, 1)
    assert (verdict.correct, verdict.compiled, verdict.target) == (True, True, "sm_90"), verdict
    wrong = judge.verdict(PROBLEM, candidate("return right(x, self.weight)").replace("0.0) * w",
                                                                                     "0.0) + w"), 1)
    assert (wrong.compiled, wrong.fault) == (True, Fault.MISMATCH)


# Launches in the styles that people write: lines of forward, the kernel's arguments, and what stands above
# it.
STYLES = {
    "a default of a constant": ("scaled_relu[grid](x, w, out, n)", "BLOCK: tl.constexpr = 32", ""),
    "a dtype as a constant": ("scaled_relu[grid](x, w, out, n, BLOCK=32, KIND=tl.float32)",
                              "BLOCK: tl.constexpr, KIND: tl.constexpr", ""),
    "a constant of the module": ("scaled_relu[grid](x, w, out, n, BLOCK=SIZE)", "BLOCK: tl.constexpr",
                                 "SIZE = tl.constexpr(32)"),
    "a function as a constant": ("scaled_relu[grid](x, w, out, n, BLOCK=32, THEN=same)",
                                 "BLOCK: tl.constexpr, THEN: tl.constexpr", "@triton.jit\ndef same(x):\n  "
                                 "  return x"),
    "a tuple of constants": ("scaled_relu[grid](x, w, out, n, BLOCK=32, SHAPE=(4, 24))",
                             "BLOCK: tl.constexpr, SHAPE: tl.constexpr", ""),
    "a tuple of numbers": ("scaled_relu[grid](x, w, out, n, x.shape, BLOCK=32)", "shape, BLOCK: "
                           "tl.constexpr", ""),
    "a flag": ("scaled_relu[grid](x, w, out, n, x.shape[0] > 2, BLOCK=32)", "flag, BLOCK: tl.constexpr", ""),
    "nothing in place of a pointer": ("scaled_relu[grid](x, w, out, n, None, BLOCK=32)", "bias, BLOCK: "
                                      "tl.constexpr", ""),
    "options": ("scaled_relu[grid](x, w, out, n, BLOCK=32, num_warps=2, num_stages=1)", "BLOCK: "
                "tl.constexpr", ""),
    "a part of a pad": ("scaled_relu[grid](torch.cat([x, x])[:x.shape[0]], w, out, n, BLOCK=32)", "BLOCK: "
                        "tl.constexpr",
                        "")}


@NEEDED
@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_launches_in_the_styles_that_people_write_compile(style, judge):
    launch, arguments, above = STYLES[style]
    begin = "out = torch.empty_like(x)\nw = self.weight\nn = x.shape[1]\ngrid = (x.shape[0],)"
    lines = f"{begin}\n{launch}\nreturn out"
    source = candidate(lines, above).replace("columns, BLOCK: tl.constexpr", f"columns, {arguments}")
    verdict = judge.verdict(PROBLEM, source, 1)
    assert verdict.correct and verdict.target == "sm_90", verdict
