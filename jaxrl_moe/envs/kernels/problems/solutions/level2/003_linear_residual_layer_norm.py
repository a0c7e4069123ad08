"""The first kernel writes the sums with bias and residual, the second normalises their rows."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def linear_residual_kernel(x_ptr, weight_ptr, bias_ptr, residual_ptr, out_ptr, m, n, k, BLOCK_M: tl.constexpr,
                           BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, k, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        x = tl.load(x_ptr + rows[:, None] * k + inner[None, :],
                    mask=(rows[:, None] < m) & (inner[None, :] < k), other=0.0)
        weight = tl.load(weight_ptr + columns[None, :] * k + inner[:, None],
                         mask=(columns[None, :] < n) & (inner[:, None] < k), other=0.0)
        total = tl.dot(x, weight, total, input_precision="ieee")
    inside = (rows[:, None] < m) & (columns[None, :] < n)
    offsets = rows[:, None] * n + columns[None, :]
    total += tl.load(bias_ptr + columns, mask=columns < n, other=0.0)[None, :]
    total += tl.load(residual_ptr + offsets, mask=inside, other=0.0)
    tl.store(out_ptr + offsets, total, mask=inside)


@triton.jit
def layer_norm_kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    x = tl.load(x_ptr + row * width + columns, mask=inside, other=0.0)
    mean = tl.sum(x, axis=0) / width
    left = tl.where(inside, x - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(left * left, axis=0) / width + eps)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=inside, other=0.0)
    tl.store(out_ptr + row * width + columns, left * scale * weight + bias, mask=inside)


class ModelNew(nn.Module):
    def __init__(self, width_in, width_out, eps):
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)
        self.weight = nn.Parameter(torch.randn(width_out))
        self.bias = nn.Parameter(torch.randn(width_out))
        self.eps = eps

    def forward(self, x, residual):
        x, residual = x.contiguous(), residual.contiguous()
        m, k = x.shape
        n = residual.shape[1]
        hidden = torch.empty_like(residual)
        out = torch.empty_like(residual)
        grid = (triton.cdiv(m, 64), triton.cdiv(n, 64))
        linear_residual_kernel[grid](x, self.linear.weight, self.linear.bias, residual, hidden, m, n, k,
                                     BLOCK_M=64, BLOCK_N=64, BLOCK_K=32)
        layer_norm_kernel[(m,)](hidden, self.weight, self.bias, out, n, self.eps,
                                BLOCK=triton.next_power_of_2(n))
        return out
