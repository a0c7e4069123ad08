"""A row is scanned block by block, and what a block sums to is carried into the next."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def cumsum_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    carried = tl.full((), 0.0, tl.float32)
    for start in range(0, columns, BLOCK):
        inside = start + lanes < columns
        x = tl.load(x_ptr + row * columns + start + lanes, mask=inside, other=0.0)
        tl.store(out_ptr + row * columns + start + lanes, carried + tl.cumsum(x, axis=0), mask=inside)
        carried += tl.sum(x, axis=0)


class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        rows, columns = x.shape
        out = torch.empty_like(x)
        cumsum_kernel[(rows,)](x, out, columns, BLOCK=1024)
        return out
