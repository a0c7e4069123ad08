"""Strided convolution in two dimensions, batch normalisation with given statistics, and the rectifier."""
import torch
import torch.nn.functional as F
from torch import nn

BATCH = 32
CHANNELS_IN = 64
CHANNELS_OUT = 128
HEIGHT = 56
WIDTH = 56
WINDOW = 3
STRIDE = 2
PADDING = 1

SMALL = {"BATCH": 2, "CHANNELS_IN": 3, "CHANNELS_OUT": 8, "HEIGHT": 14, "WIDTH": 17}
VARIANTS = ({"BATCH": 1, "CHANNELS_IN": 1, "CHANNELS_OUT": 1, "HEIGHT": 1, "WIDTH": 1},
            {"BATCH": 1, "CHANNELS_IN": 5, "CHANNELS_OUT": 33, "HEIGHT": 13, "WIDTH": 19},
            {"BATCH": 1, "CHANNELS_IN": 2, "CHANNELS_OUT": 3, "HEIGHT": 23, "WIDTH": 16, "WINDOW": 5,
             "STRIDE": 3, "PADDING": 2})


class Model(nn.Module):
    def __init__(self, channels_in, channels_out, window, stride, padding, eps):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, window, stride, padding, bias=False)
        self.weight = nn.Parameter(torch.randn(channels_out))
        self.bias = nn.Parameter(torch.randn(channels_out))
        self.register_buffer("mean", torch.randn(channels_out))
        self.register_buffer("variance", torch.rand(channels_out) + 0.2)
        self.eps = eps

    def forward(self, x):
        return torch.relu(F.batch_norm(self.conv(x), self.mean, self.variance, self.weight, self.bias,
                                       training=False, eps=self.eps))


def get_inputs():
    return [2 * torch.randn(BATCH, CHANNELS_IN, HEIGHT, WIDTH)]


def get_init_inputs():
    return [CHANNELS_IN, CHANNELS_OUT, WINDOW, STRIDE, PADDING, 1e-5]
