"""A block of outputs of one plane for each program."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def avg_pool2d_kernel(x_ptr, out_ptr, height, width, out_height, out_width, stride, WINDOW: tl.constexpr,
                      BLOCK: tl.constexpr):
    plane = tl.program_id(0).to(tl.int64)
    pixels = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    size = out_height * out_width
    top = pixels // out_width * stride
    left = pixels % out_width * stride
    total = tl.zeros((BLOCK,), tl.float32)
    for tap in range(WINDOW * WINDOW):
        offsets = (plane * height + top + tap // WINDOW) * width + left + tap % WINDOW
        total += tl.load(x_ptr + offsets, mask=pixels < size, other=0.0)
    tl.store(out_ptr + plane * size + pixels, total / (WINDOW * WINDOW), mask=pixels < size)


class ModelNew(nn.Module):
    def __init__(self, window, stride):
        super().__init__()
        self.window, self.stride = window, stride

    def forward(self, x):
        x = x.contiguous()
        batch, channels, height, width = x.shape
        out_height = (height - self.window) // self.stride + 1
        out_width = (width - self.window) // self.stride + 1
        out = torch.empty(batch, channels, out_height, out_width, dtype=x.dtype, device=x.device)
        grid = (batch * channels, triton.cdiv(out_height * out_width, 256))
        avg_pool2d_kernel[grid](x, out, height, width, out_height, out_width, self.stride, WINDOW=self.window,
                                BLOCK=256)
        return out
