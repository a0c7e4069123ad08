"""The four numbers of a channel become one factor and one summand before the pixels are read."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def batch_norm_kernel(x_ptr, mean_ptr, variance_ptr, weight_ptr, bias_ptr, out_ptr, channels, pixels, eps,
                      BLOCK: tl.constexpr):
    plane = tl.program_id(0).to(tl.int64)
    channel = plane % channels
    factor = tl.load(weight_ptr + channel) / tl.sqrt(tl.load(variance_ptr + channel) + eps)
    summand = tl.load(bias_ptr + channel) - tl.load(mean_ptr + channel) * factor
    lanes = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = lanes < pixels
    x = tl.load(x_ptr + plane * pixels + lanes, mask=inside, other=0.0)
    tl.store(out_ptr + plane * pixels + lanes, x * factor + summand, mask=inside)


class ModelNew(nn.Module):
    def __init__(self, channels, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels))
        self.bias = nn.Parameter(torch.randn(channels))
        self.register_buffer("mean", torch.randn(channels))
        self.register_buffer("variance", torch.rand(channels) + 0.2)
        self.eps = eps

    def forward(self, x):
        x = x.contiguous()
        batch, channels, height, width = x.shape
        out = torch.empty_like(x)
        pixels = height * width
        grid = (batch * channels, triton.cdiv(pixels, 512))
        batch_norm_kernel[grid](x, self.mean, self.variance, self.weight, self.bias, out, channels, pixels,
                                self.eps, BLOCK=512)
        return out
