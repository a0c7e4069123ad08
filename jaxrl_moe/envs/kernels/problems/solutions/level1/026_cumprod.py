"""What lies outside counts as one, so that the last lane of a block has the product that is carried on."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def cumprod_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    carried = tl.full((), 1.0, tl.float32)
    for start in range(0, columns, BLOCK):
        inside = start + lanes < columns
        x = tl.load(x_ptr + row * columns + start + lanes, mask=inside, other=1.0)
        products = carried * tl.cumprod(x, axis=0)
        tl.store(out_ptr + row * columns + start + lanes, products, mask=inside)
        carried = tl.sum(tl.where(lanes == BLOCK - 1, products, 0.0), axis=0)


class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        rows, columns = x.shape
        out = torch.empty_like(x)
        cumprod_kernel[(rows,)](x, out, columns, BLOCK=512)
        return out
