"""A group is one stretch of memory: it is read for its mean, for its variance, and to be written."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def group_norm_kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, groups, channels_each, length, eps,
                      BLOCK: tl.constexpr):
    group = tl.program_id(0).to(tl.int64)
    size = channels_each * length
    first_channel = (group % groups) * channels_each
    lanes = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, size, BLOCK):
        inside = start + lanes < size
        total += tl.load(x_ptr + group * size + start + lanes, mask=inside, other=0.0)
    mean = tl.sum(total, axis=0) / size
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, size, BLOCK):
        inside = start + lanes < size
        x = tl.load(x_ptr + group * size + start + lanes, mask=inside, other=0.0)
        left = tl.where(inside, x - mean, 0.0)
        squares += left * left
    scale = 1.0 / tl.sqrt(tl.sum(squares, axis=0) / size + eps)
    for start in range(0, size, BLOCK):
        inside = start + lanes < size
        channel = first_channel + (start + lanes) // length
        x = tl.load(x_ptr + group * size + start + lanes, mask=inside, other=0.0)
        weight = tl.load(weight_ptr + channel, mask=inside, other=0.0)
        bias = tl.load(bias_ptr + channel, mask=inside, other=0.0)
        out = (x - mean) * scale * weight + bias
        tl.store(out_ptr + group * size + start + lanes, out, mask=inside)


class ModelNew(nn.Module):
    def __init__(self, channels, groups, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels))
        self.bias = nn.Parameter(torch.randn(channels))
        self.groups = groups
        self.eps = eps

    def forward(self, x):
        x = x.contiguous()
        batch, channels, length = x.shape
        out = torch.empty_like(x)
        group_norm_kernel[(batch * self.groups,)](x, self.weight, self.bias, out, self.groups,
                                                  channels // self.groups, length, self.eps, BLOCK=1024)
        return out
