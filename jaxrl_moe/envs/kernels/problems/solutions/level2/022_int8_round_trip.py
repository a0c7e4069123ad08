"""Two passes over a row: for its largest magnitude, and for the codes, which stay in registers."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def int8_round_trip_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    largest = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, columns, BLOCK):
        inside = start + lanes < columns
        x = tl.load(x_ptr + row * columns + start + lanes, mask=inside, other=0.0)
        largest = tl.maximum(largest, tl.abs(x))
    scale = tl.maximum(tl.max(largest, axis=0), 1e-8) / 127.0
    for start in range(0, columns, BLOCK):
        inside = start + lanes < columns
        x = tl.load(x_ptr + row * columns + start + lanes, mask=inside, other=0.0)
        codes = tl.floor(x / scale + 0.5).to(tl.int8)
        tl.store(out_ptr + row * columns + start + lanes, codes.to(tl.float32) * scale, mask=inside)


class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        rows, columns = x.shape
        out = torch.empty_like(x)
        int8_round_trip_kernel[(rows,)](x, out, columns, BLOCK=1024)
        return out
