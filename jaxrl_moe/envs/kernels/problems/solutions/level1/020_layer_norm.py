"""A whole row is held by its program, padded to a power of two, and read once."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def layer_norm_kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    x = tl.load(x_ptr + row * width + columns, mask=inside, other=0.0)
    mean = tl.sum(x, axis=0) / width
    left = tl.where(inside, x - mean, 0.0)
    variance = tl.sum(left * left, axis=0) / width
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    out = left / tl.sqrt(variance + eps) * weight + bias
    tl.store(out_ptr + row * width + columns, out, mask=inside)


class ModelNew(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
        self.bias = nn.Parameter(torch.randn(width))
        self.eps = eps

    def forward(self, x):
        x = x.contiguous()
        tokens, width = x.shape
        out = torch.empty_like(x)
        layer_norm_kernel[(tokens,)](x, self.weight, self.bias, out, width, self.eps,
                                     BLOCK=triton.next_power_of_2(width), num_warps=8)
        return out
