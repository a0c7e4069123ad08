"""A program has a few rows, sums their squares and then reads them once more."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def l2_normalize_kernel(x_ptr, out_ptr, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    lanes = tl.arange(0, COLUMNS)
    squares = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, columns, COLUMNS):
        column = start + lanes
        inside = (row[:, None] < rows) & (column[None, :] < columns)
        x = tl.load(x_ptr + row[:, None] * columns + column[None, :], mask=inside, other=0.0)
        squares += x * x
    length = tl.maximum(tl.sqrt(tl.sum(squares, axis=1)), 1e-6)
    for start in range(0, columns, COLUMNS):
        column = start + lanes
        inside = (row[:, None] < rows) & (column[None, :] < columns)
        offsets = row[:, None] * columns + column[None, :]
        x = tl.load(x_ptr + offsets, mask=inside, other=0.0)
        tl.store(out_ptr + offsets, x / length[:, None], mask=inside)


class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        rows, columns = x.shape
        out = torch.empty_like(x)
        l2_normalize_kernel[(triton.cdiv(rows, 4),)](x, out, rows, columns, ROWS=4, COLUMNS=256)
        return out
