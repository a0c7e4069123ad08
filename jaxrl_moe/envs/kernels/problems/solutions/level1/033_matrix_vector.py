"""A program has 16 rows, multiplies 128 columns of them at a time and folds them at the end."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def matrix_vector_kernel(a_ptr, x_ptr, out_ptr, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    lanes = tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, columns, COLUMNS):
        column = start + lanes
        a = tl.load(a_ptr + row[:, None] * columns + column[None, :],
                    mask=(row[:, None] < rows) & (column[None, :] < columns), other=0.0)
        x = tl.load(x_ptr + column, mask=column < columns, other=0.0)
        total += a * x[None, :]
    tl.store(out_ptr + row, tl.sum(total, axis=1), mask=row < rows)


class ModelNew(nn.Module):
    def forward(self, a, x):
        a, x = a.contiguous(), x.contiguous()
        rows, columns = a.shape
        out = torch.empty(rows, dtype=a.dtype, device=a.device)
        matrix_vector_kernel[(triton.cdiv(rows, 16),)](a, x, out, rows, columns, ROWS=16, COLUMNS=128)
        return out
