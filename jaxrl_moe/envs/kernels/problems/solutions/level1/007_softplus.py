"""The exponential is taken of -|beta x| alone, so that it cannot overflow."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def softplus_kernel(x_ptr, out_ptr, size, beta, BLOCK: tl.constexpr):
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < size
    scaled = tl.load(x_ptr + offsets, mask=inside, other=0.0) * beta
    out = tl.maximum(scaled, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(scaled)))
    tl.store(out_ptr + offsets, out / beta, mask=inside)


class ModelNew(nn.Module):
    def __init__(self, beta):
        super().__init__()
        self.beta = beta

    def forward(self, x):
        x = x.contiguous()
        out = torch.empty_like(x)
        size = x.numel()
        softplus_kernel[(triton.cdiv(size, 1024),)](x, out, size, self.beta, BLOCK=1024)
        return out
