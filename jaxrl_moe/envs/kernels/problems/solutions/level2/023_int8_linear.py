"""Codes become float32 in registers; a feature's scale is applied once, to its sum."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def int8_linear_kernel(x_ptr, codes_ptr, scales_ptr, bias_ptr, out_ptr, m, n, k, BLOCK_M: tl.constexpr,
                       BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, k, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        x = tl.load(x_ptr + rows[:, None] * k + inner[None, :],
                    mask=(rows[:, None] < m) & (inner[None, :] < k), other=0.0)
        codes = tl.load(codes_ptr + columns[None, :] * k + inner[:, None],
                        mask=(columns[None, :] < n) & (inner[:, None] < k), other=0)
        total = tl.dot(x, codes.to(tl.float32), total, input_precision="ieee")
    scales = tl.load(scales_ptr + columns, mask=columns < n, other=0.0)
    bias = tl.load(bias_ptr + columns, mask=columns < n, other=0.0)
    tl.store(out_ptr + rows[:, None] * n + columns[None, :], total * scales[None, :] + bias[None, :],
             mask=(rows[:, None] < m) & (columns[None, :] < n))


class ModelNew(nn.Module):
    def __init__(self, width_in, width_out):
        super().__init__()
        self.register_buffer("codes", torch.randint(-127, 128, (width_out, width_in), dtype=torch.int8))
        self.register_buffer("scales", (0.2 + torch.rand(width_out)) / 64 * width_in ** -0.5)
        self.bias = nn.Parameter(torch.randn(width_out))

    def forward(self, x):
        x = x.contiguous()
        m, k = x.shape
        n = self.codes.shape[0]
        out = torch.empty(m, n, dtype=x.dtype, device=x.device)
        grid = (triton.cdiv(m, 64), triton.cdiv(n, 64))
        int8_linear_kernel[grid](x, self.codes, self.scales, self.bias, out, m, n, k, BLOCK_M=64, BLOCK_N=64,
                                 BLOCK_K=32)
        return out
