"""A program goes over all features of its tokens, so the features are summed where they are made."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def linear_sigmoid_sum_kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, m, n, k, BLOCK_M: tl.constexpr,
                              BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    summed = tl.zeros((BLOCK_M,), tl.float32)
    for first in range(0, n, BLOCK_N):
        columns = first + tl.arange(0, BLOCK_N)
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for start in range(0, k, BLOCK_K):
            inner = start + tl.arange(0, BLOCK_K)
            x = tl.load(x_ptr + rows[:, None] * k + inner[None, :],
                        mask=(rows[:, None] < m) & (inner[None, :] < k), other=0.0)
            weight = tl.load(weight_ptr + columns[None, :] * k + inner[:, None],
                             mask=(columns[None, :] < n) & (inner[:, None] < k), other=0.0)
            total = tl.dot(x, weight, total, input_precision="ieee")
        total += tl.load(bias_ptr + columns, mask=columns < n, other=0.0)[None, :]
        summed += tl.sum(tl.where(columns[None, :] < n, tl.sigmoid(total), 0.0), axis=1)
    tl.store(out_ptr + rows, summed, mask=rows < m)


class ModelNew(nn.Module):
    def __init__(self, width_in, width_out):
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)

    def forward(self, x):
        x = x.contiguous()
        m, k = x.shape
        n = self.linear.weight.shape[0]
        out = torch.empty(m, dtype=x.dtype, device=x.device)
        grid = (triton.cdiv(m, 32),)
        linear_sigmoid_sum_kernel[grid](x, self.linear.weight, self.linear.bias, out, m, n, k, BLOCK_M=32,
                                        BLOCK_N=64, BLOCK_K=32)
        return out
