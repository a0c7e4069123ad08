"""Both bounds reach the kernel as numbers."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def clamp_kernel(x_ptr, out_ptr, size, low, high, BLOCK: tl.constexpr):
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < size
    x = tl.load(x_ptr + offsets, mask=inside, other=0.0)
    x = tl.where(x < low, low, x)
    x = tl.where(x > high, high, x)
    tl.store(out_ptr + offsets, x, mask=inside)


class ModelNew(nn.Module):
    def __init__(self, low, high):
        super().__init__()
        self.low = low
        self.high = high

    def forward(self, x):
        x = x.contiguous()
        out = torch.empty_like(x)
        size = x.numel()
        clamp_kernel[(triton.cdiv(size, 1024),)](x, out, size, self.low, self.high, BLOCK=1024)
        return out
