"""A block of pixels of one plane for each program; the window is a loop over its taps."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def depthwise_conv2d_kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, channels, height, width, out_height,
                            out_width, stride, padding, WINDOW: tl.constexpr, BLOCK: tl.constexpr):
    plane = tl.program_id(0).to(tl.int64)
    channel = plane % channels
    pixels = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    top = pixels // out_width * stride - padding
    left = pixels % out_width * stride - padding
    total = tl.zeros((BLOCK,), tl.float32) + tl.load(bias_ptr + channel)
    for tap in range(WINDOW * WINDOW):
        row = top + tap // WINDOW
        column = left + tap % WINDOW
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        inside = inside & (pixels < out_height * out_width)
        x = tl.load(x_ptr + (plane * height + row) * width + column, mask=inside, other=0.0)
        total += x * tl.load(weight_ptr + channel * WINDOW * WINDOW + tap)
    size = out_height * out_width
    tl.store(out_ptr + plane * size + pixels, total, mask=pixels < size)


class ModelNew(nn.Module):
    def __init__(self, channels, window, stride, padding):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, window, stride, padding, groups=channels)
        self.window, self.stride, self.padding = window, stride, padding

    def forward(self, x):
        x = x.contiguous()
        batch, channels, height, width = x.shape
        out_height = (height + 2 * self.padding - self.window) // self.stride + 1
        out_width = (width + 2 * self.padding - self.window) // self.stride + 1
        out = torch.empty(batch, channels, out_height, out_width, dtype=x.dtype, device=x.device)
        grid = (batch * channels, triton.cdiv(out_height * out_width, 256))
        depthwise_conv2d_kernel[grid](x, self.conv.weight, self.conv.bias, out, channels, height, width,
                                      out_height, out_width, self.stride, self.padding, WINDOW=self.window,
                                      BLOCK=256)
        return out
