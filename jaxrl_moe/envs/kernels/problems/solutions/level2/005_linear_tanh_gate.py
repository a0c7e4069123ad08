"""tanh(u) is twice the logistic function of 2u, less one."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def linear_tanh_gate_kernel(x_ptr, weight_ptr, bias_ptr, gate_ptr, out_ptr, m, n, k, offset,
                            BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
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
    total += tl.load(bias_ptr + columns, mask=columns < n, other=0.0)[None, :]
    gate = tl.load(gate_ptr + columns, mask=columns < n, other=0.0)
    out = (2.0 * tl.sigmoid(2.0 * total) - 1.0) * gate[None, :] - offset
    tl.store(out_ptr + rows[:, None] * n + columns[None, :], out,
             mask=(rows[:, None] < m) & (columns[None, :] < n))


class ModelNew(nn.Module):
    def __init__(self, width_in, width_out, offset):
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)
        self.gate = nn.Parameter(torch.randn(width_out))
        self.offset = offset

    def forward(self, x):
        x = x.contiguous()
        m, k = x.shape
        n = self.linear.weight.shape[0]
        out = torch.empty(m, n, dtype=x.dtype, device=x.device)
        grid = (triton.cdiv(m, 64), triton.cdiv(n, 64))
        linear_tanh_gate_kernel[grid](x, self.linear.weight, self.linear.bias, self.gate, out, m, n, k,
                                      self.offset, BLOCK_M=64, BLOCK_N=64, BLOCK_K=32)
        return out
