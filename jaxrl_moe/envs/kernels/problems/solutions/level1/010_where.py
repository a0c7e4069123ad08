"""Only that array is read of which an element is needed: the mask guards the loads."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def where_kernel(mask_ptr, x_ptr, y_ptr, out_ptr, size, BLOCK: tl.constexpr):
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < size
    chosen = tl.load(mask_ptr + offsets, mask=inside, other=0) != 0
    x = tl.load(x_ptr + offsets, mask=inside & chosen, other=0.0)
    y = tl.load(y_ptr + offsets, mask=inside & (chosen == 0), other=0.0)
    tl.store(out_ptr + offsets, tl.where(chosen, x, y), mask=inside)


class ModelNew(nn.Module):
    def forward(self, mask, x, y):
        mask, x, y = mask.contiguous(), x.contiguous(), y.contiguous()
        out = torch.empty_like(x)
        size = x.numel()
        where_kernel[(triton.cdiv(size, 1024),)](mask, x, y, out, size, BLOCK=1024)
        return out
