"""One tile for each program: each number is read once and multiplied many times."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def outer_product_kernel(x_ptr, y_ptr, out_ptr, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    x = tl.load(x_ptr + row, mask=row < rows, other=0.0)
    y = tl.load(y_ptr + column, mask=column < columns, other=0.0)
    tl.store(out_ptr + row[:, None] * columns + column[None, :], x[:, None] * y[None, :],
             mask=(row[:, None] < rows) & (column[None, :] < columns))


class ModelNew(nn.Module):
    def forward(self, x, y):
        x, y = x.contiguous(), y.contiguous()
        rows, columns = x.numel(), y.numel()
        out = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
        grid = (triton.cdiv(rows, 32), triton.cdiv(columns, 64))
        outer_product_kernel[grid](x, y, out, rows, columns, ROWS=32, COLUMNS=64)
        return out
