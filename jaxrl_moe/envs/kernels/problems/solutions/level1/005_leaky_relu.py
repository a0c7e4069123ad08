"""The slope reaches the kernel as a number, not as a constant of its compilation."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def leaky_relu_kernel(x_ptr, out_ptr, size, slope, BLOCK: tl.constexpr):
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < size
    x = tl.load(x_ptr + offsets, mask=inside, other=0.0)
    tl.store(out_ptr + offsets, tl.where(x < 0.0, x * slope, x), mask=inside)


class ModelNew(nn.Module):
    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        x = x.contiguous()
        out = torch.empty_like(x)
        size = x.numel()
        leaky_relu_kernel[(triton.cdiv(size, 1024),)](x, out, size, self.slope, BLOCK=1024)
        return out
