"""The mean first, then the squares of what is left: mean square less squared mean would lose digits."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def variance_rows_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, columns, BLOCK):
        inside = start + lanes < columns
        total += tl.load(x_ptr + row * columns + start + lanes, mask=inside, other=0.0)
    mean = tl.sum(total, axis=0) / columns
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, columns, BLOCK):
        inside = start + lanes < columns
        x = tl.load(x_ptr + row * columns + start + lanes, mask=inside, other=0.0)
        left = tl.where(inside, x - mean, 0.0)
        squares += left * left
    tl.store(out_ptr + row, tl.sum(squares, axis=0) / (columns - 1))


class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        rows, columns = x.shape
        out = torch.empty(rows, dtype=x.dtype, device=x.device)
        variance_rows_kernel[(rows,)](x, out, columns, BLOCK=1024)
        return out
