"""What is loaded becomes float32 at once, and bfloat16 again only where it is stored."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def rms_norm_bfloat16_kernel(x_ptr, weight_ptr, out_ptr, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, width, BLOCK):
        inside = start + lanes < width
        x = tl.load(x_ptr + row * width + start + lanes, mask=inside, other=0.0).to(tl.float32)
        squares += x * x
    scale = 1.0 / tl.sqrt(tl.sum(squares, axis=0) / width + eps)
    for start in range(0, width, BLOCK):
        inside = start + lanes < width
        x = tl.load(x_ptr + row * width + start + lanes, mask=inside, other=0.0).to(tl.float32)
        weight = tl.load(weight_ptr + start + lanes, mask=inside, other=0.0)
        tl.store(out_ptr + row * width + start + lanes, (x * scale * weight).to(tl.bfloat16), mask=inside)


class ModelNew(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
        self.eps = eps

    def forward(self, x):
        x = x.contiguous()
        tokens, width = x.shape
        out = torch.empty_like(x)
        rms_norm_bfloat16_kernel[(tokens,)](x, self.weight, out, width, self.eps, BLOCK=1024)
        return out
