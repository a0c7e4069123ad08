"""One pass: a row's scale is the same for all its products, so it is applied when its squares are summed."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def rms_norm_linear_kernel(x_ptr, norm_ptr, weight_ptr, out_ptr, m, n, k, eps, BLOCK_M: tl.constexpr,
                           BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    squares = tl.zeros((BLOCK_M,), tl.float32)
    for start in range(0, k, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        x = tl.load(x_ptr + rows[:, None] * k + inner[None, :],
                    mask=(rows[:, None] < m) & (inner[None, :] < k), other=0.0)
        norm = tl.load(norm_ptr + inner, mask=inner < k, other=0.0)
        weight = tl.load(weight_ptr + columns[None, :] * k + inner[:, None],
                         mask=(columns[None, :] < n) & (inner[:, None] < k), other=0.0)
        squares += tl.sum(x * x, axis=1)
        total = tl.dot(x * norm[None, :], weight, total, input_precision="ieee")
    scale = 1.0 / tl.sqrt(squares / k + eps)
    tl.store(out_ptr + rows[:, None] * n + columns[None, :], total * scale[:, None],
             mask=(rows[:, None] < m) & (columns[None, :] < n))


class ModelNew(nn.Module):
    def __init__(self, width_in, width_out, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width_in))
        self.linear = nn.Linear(width_in, width_out, bias=False)
        self.eps = eps

    def forward(self, x):
        x = x.contiguous()
        m, k = x.shape
        n = self.linear.weight.shape[0]
        out = torch.empty(m, n, dtype=x.dtype, device=x.device)
        grid = (triton.cdiv(m, 64), triton.cdiv(n, 64))
        rms_norm_linear_kernel[grid](x, self.weight, self.linear.weight, out, m, n, k, self.eps, BLOCK_M=64,
                                     BLOCK_N=64, BLOCK_K=32)
        return out
