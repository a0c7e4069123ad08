"""A program walks along its row, adds block to block and folds the block at the end."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def sum_rows_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, columns, BLOCK):
        inside = start + lanes < columns
        total += tl.load(x_ptr + row * columns + start + lanes, mask=inside, other=0.0)
    tl.store(out_ptr + row, tl.sum(total, axis=0))


class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        rows, columns = x.shape
        out = torch.empty(rows, dtype=x.dtype, device=x.device)
        sum_rows_kernel[(rows,)](x, out, columns, BLOCK=1024)
        return out
