"""A program has 32 neighbouring columns, so that its reads are stretches of memory, and walks down."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def mean_columns_kernel(x_ptr, out_ptr, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    wanted = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    lanes = tl.arange(0, ROWS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, rows, ROWS):
        row = (start + lanes).to(tl.int64)
        inside = (row[:, None] < rows) & (wanted[None, :] < columns)
        total += tl.load(x_ptr + row[:, None] * columns + wanted[None, :], mask=inside, other=0.0)
    tl.store(out_ptr + wanted, tl.sum(total, axis=0) / rows, mask=wanted < columns)


class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        rows, columns = x.shape
        out = torch.empty(columns, dtype=x.dtype, device=x.device)
        mean_columns_kernel[(triton.cdiv(columns, 32),)](x, out, rows, columns, ROWS=64, COLUMNS=32)
        return out
