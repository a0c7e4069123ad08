"""A program holds one block of y and adds it to a block of rows of x."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def broadcast_add_kernel(x_ptr, y_ptr, out_ptr, length, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    batch = tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    y = tl.load(y_ptr + batch * width + columns, mask=columns < width, other=0.0)
    offsets = (batch * length + rows[:, None]) * width + columns[None, :]
    inside = (rows[:, None] < length) & (columns[None, :] < width)
    x = tl.load(x_ptr + offsets, mask=inside, other=0.0)
    tl.store(out_ptr + offsets, x + y[None, :], mask=inside)


class ModelNew(nn.Module):
    def forward(self, x, y):
        x, y = x.contiguous(), y.contiguous()
        batch, length, width = x.shape
        out = torch.empty_like(x)
        grid = (triton.cdiv(length, 8), triton.cdiv(width, 128), batch)
        broadcast_add_kernel[grid](x, y, out, length, width, ROWS=8, COLUMNS=128)
        return out
