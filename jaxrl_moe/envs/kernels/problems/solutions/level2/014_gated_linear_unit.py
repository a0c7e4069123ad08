"""A program makes the same tile of both halves, so neither is ever written."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def gated_linear_unit_kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, m, n, k, BLOCK_M: tl.constexpr,
                             BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    values = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    gates = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, k, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        x = tl.load(x_ptr + rows[:, None] * k + inner[None, :],
                    mask=(rows[:, None] < m) & (inner[None, :] < k), other=0.0)
        offsets = columns[None, :] * k + inner[:, None]
        inside = (columns[None, :] < n) & (inner[:, None] < k)
        first = tl.load(weight_ptr + offsets, mask=inside, other=0.0)
        second = tl.load(weight_ptr + n * k + offsets, mask=inside, other=0.0)
        values = tl.dot(x, first, values, input_precision="ieee")
        gates = tl.dot(x, second, gates, input_precision="ieee")
    values += tl.load(bias_ptr + columns, mask=columns < n, other=0.0)[None, :]
    gates += tl.load(bias_ptr + n + columns, mask=columns < n, other=0.0)[None, :]
    tl.store(out_ptr + rows[:, None] * n + columns[None, :], values * tl.sigmoid(gates),
             mask=(rows[:, None] < m) & (columns[None, :] < n))


class ModelNew(nn.Module):
    def __init__(self, width_in, width_out):
        super().__init__()
        self.linear = nn.Linear(width_in, 2 * width_out)

    def forward(self, x):
        x = x.contiguous()
        m, k = x.shape
        n = self.linear.weight.shape[0] // 2
        out = torch.empty(m, n, dtype=x.dtype, device=x.device)
        grid = (triton.cdiv(m, 64), triton.cdiv(n, 32))
        gated_linear_unit_kernel[grid](x, self.linear.weight, self.linear.bias, out, m, n, k, BLOCK_M=64,
                                       BLOCK_N=32, BLOCK_K=32)
        return out
