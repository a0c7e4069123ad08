"""The normalisation of a channel is a factor and a summand for its row of the tile."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def conv_batch_norm_relu_kernel(x_ptr, conv_ptr, weight_ptr, bias_ptr, mean_ptr, variance_ptr, out_ptr,
                                channels_in, channels_out, height, width, out_height, out_width, stride,
                                padding, eps, WINDOW: tl.constexpr, BLOCK_O: tl.constexpr,
                                BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr):
    batch = tl.program_id(2).to(tl.int64)
    channels = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    pixels = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    depth = channels_in * WINDOW * WINDOW
    total = tl.zeros((BLOCK_O, BLOCK_P), tl.float32)
    for start in range(0, depth, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        taps = tl.load(conv_ptr + channels[:, None] * depth + inner[None, :],
                       mask=(channels[:, None] < channels_out) & (inner[None, :] < depth), other=0.0)
        channel_in = inner // (WINDOW * WINDOW)
        row = (pixels // out_width * stride)[None, :] - padding + (inner // WINDOW % WINDOW)[:, None]
        column = (pixels % out_width * stride)[None, :] - padding + (inner % WINDOW)[:, None]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (inner[:, None] < depth)
        x = tl.load(x_ptr + ((batch * channels_in + channel_in[:, None]) * height + row) * width + column,
                    mask=inside, other=0.0)
        total = tl.dot(taps, x, total, input_precision="ieee")
    there = channels < channels_out
    variance = tl.load(variance_ptr + channels, mask=there, other=1.0)
    factor = tl.load(weight_ptr + channels, mask=there, other=0.0) / tl.sqrt(variance + eps)
    mean = tl.load(mean_ptr + channels, mask=there, other=0.0)
    bias = tl.load(bias_ptr + channels, mask=there, other=0.0)
    out = tl.maximum((total - mean[:, None]) * factor[:, None] + bias[:, None], 0.0)
    size = out_height * out_width
    tl.store(out_ptr + (batch * channels_out + channels[:, None]) * size + pixels[None, :], out,
             mask=there[:, None] & (pixels[None, :] < size))


class ModelNew(nn.Module):
    def __init__(self, channels_in, channels_out, window, stride, padding, eps):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, window, stride, padding, bias=False)
        self.weight = nn.Parameter(torch.randn(channels_out))
        self.bias = nn.Parameter(torch.randn(channels_out))
        self.register_buffer("mean", torch.randn(channels_out))
        self.register_buffer("variance", torch.rand(channels_out) + 0.2)
        self.window, self.stride, self.padding, self.eps = window, stride, padding, eps

    def forward(self, x):
        x = x.contiguous()
        batch, channels_in, height, width = x.shape
        channels_out = self.weight.shape[0]
        out_height = (height + 2 * self.padding - self.window) // self.stride + 1
        out_width = (width + 2 * self.padding - self.window) // self.stride + 1
        out = torch.empty(batch, channels_out, out_height, out_width, dtype=x.dtype, device=x.device)
        grid = (triton.cdiv(channels_out, 32), triton.cdiv(out_height * out_width, 64), batch)
        conv_batch_norm_relu_kernel[grid](
            x, self.conv.weight, self.weight, self.bias, self.mean, self.variance, out, channels_in,
            channels_out, height, width, out_height, out_width, self.stride, self.padding, self.eps,
            WINDOW=self.window, BLOCK_O=32, BLOCK_P=64, BLOCK_K=32)
        return out
