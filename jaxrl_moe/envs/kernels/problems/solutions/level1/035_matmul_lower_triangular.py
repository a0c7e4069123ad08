"""A tile needs only the inner blocks between its column and its row; tiles above the diagonal need none."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def lower_triangular_kernel(a_ptr, b_ptr, out_ptr, size, BLOCK: tl.constexpr, BLOCK_K: tl.constexpr):
    first_row = tl.program_id(0) * BLOCK
    first_column = tl.program_id(1) * BLOCK
    rows = first_row + tl.arange(0, BLOCK)
    columns = first_column + tl.arange(0, BLOCK)
    last = tl.minimum(first_row + BLOCK, size)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for start in range(first_column, last, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        a = tl.load(a_ptr + rows[:, None] * size + inner[None, :],
                    mask=(rows[:, None] < size) & (inner[None, :] <= rows[:, None]), other=0.0)
        b = tl.load(b_ptr + inner[:, None] * size + columns[None, :],
                    mask=(inner[:, None] < size) & (columns[None, :] <= inner[:, None]), other=0.0)
        total = tl.dot(a, b, total, input_precision="ieee")
    tl.store(out_ptr + rows[:, None] * size + columns[None, :], total,
             mask=(rows[:, None] < size) & (columns[None, :] < size))


class ModelNew(nn.Module):
    def forward(self, a, b):
        a, b = a.contiguous(), b.contiguous()
        size = a.shape[0]
        out = torch.empty_like(a)
        tiles = triton.cdiv(size, 64)
        lower_triangular_kernel[(tiles, tiles)](a, b, out, size, BLOCK=64, BLOCK_K=32)
        return out
