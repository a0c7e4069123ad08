"""What lies outside counts as minus infinity: zero would win against rows of negative numbers."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def max_middle_kernel(x_ptr, out_ptr, length, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    batch = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    lanes = tl.arange(0, ROWS)
    best = tl.full((ROWS, COLUMNS), float("-inf"), tl.float32)
    for start in range(0, length, ROWS):
        rows = start + lanes
        inside = (rows[:, None] < length) & (columns[None, :] < width)
        offsets = (batch * length + rows[:, None]) * width + columns[None, :]
        best = tl.maximum(best, tl.load(x_ptr + offsets, mask=inside, other=float("-inf")))
    tl.store(out_ptr + batch * width + columns, tl.max(best, axis=0), mask=columns < width)


class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        batch, length, width = x.shape
        out = torch.empty(batch, width, dtype=x.dtype, device=x.device)
        max_middle_kernel[(triton.cdiv(width, 128), batch)](x, out, length, width, ROWS=16, COLUMNS=128)
        return out
