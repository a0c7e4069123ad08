"""A program has one channel of one sample, and so one scale and one shift."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def scale_shift_kernel(x_ptr, scale_ptr, shift_ptr, out_ptr, channels, length, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    scale = tl.load(scale_ptr + row % channels)
    shift = tl.load(shift_ptr + row % channels)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < length
    x = tl.load(x_ptr + row * length + columns, mask=inside, other=0.0)
    tl.store(out_ptr + row * length + columns, x * scale + shift, mask=inside)


class ModelNew(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(channels))
        self.shift = nn.Parameter(torch.randn(channels))

    def forward(self, x):
        x = x.contiguous()
        batch, channels, length = x.shape
        out = torch.empty_like(x)
        grid = (batch * channels, triton.cdiv(length, 512))
        scale_shift_kernel[grid](x, self.scale, self.shift, out, channels, length, BLOCK=512)
        return out
