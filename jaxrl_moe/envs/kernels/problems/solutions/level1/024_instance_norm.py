"""One program for each plane, in three passes of blocks."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def instance_norm_kernel(x_ptr, out_ptr, pixels, eps, BLOCK: tl.constexpr):
    plane = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, pixels, BLOCK):
        inside = start + lanes < pixels
        total += tl.load(x_ptr + plane * pixels + start + lanes, mask=inside, other=0.0)
    mean = tl.sum(total, axis=0) / pixels
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, pixels, BLOCK):
        inside = start + lanes < pixels
        x = tl.load(x_ptr + plane * pixels + start + lanes, mask=inside, other=0.0)
        left = tl.where(inside, x - mean, 0.0)
        squares += left * left
    scale = 1.0 / tl.sqrt(tl.sum(squares, axis=0) / pixels + eps)
    for start in range(0, pixels, BLOCK):
        inside = start + lanes < pixels
        x = tl.load(x_ptr + plane * pixels + start + lanes, mask=inside, other=0.0)
        tl.store(out_ptr + plane * pixels + start + lanes, (x - mean) * scale, mask=inside)


class ModelNew(nn.Module):
    def __init__(self, eps):
        super().__init__()
        self.eps = eps

    def forward(self, x):
        x = x.contiguous()
        batch, channels, height, width = x.shape
        out = torch.empty_like(x)
        instance_norm_kernel[(batch * channels,)](x, out, height * width, self.eps, BLOCK=1024)
        return out
