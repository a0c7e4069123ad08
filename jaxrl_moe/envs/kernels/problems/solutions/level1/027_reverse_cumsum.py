"""The row is read from its end: lane i of a block has column columns - 1 - start - i."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def reverse_cumsum_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    carried = tl.full((), 0.0, tl.float32)
    for start in range(0, columns, BLOCK):
        column = columns - 1 - start - lanes
        x = tl.load(x_ptr + row * columns + column, mask=column >= 0, other=0.0)
        tl.store(out_ptr + row * columns + column, carried + tl.cumsum(x, axis=0), mask=column >= 0)
        carried += tl.sum(x, axis=0)


class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        rows, columns = x.shape
        out = torch.empty_like(x)
        reverse_cumsum_kernel[(rows,)](x, out, columns, BLOCK=1024)
        return out
