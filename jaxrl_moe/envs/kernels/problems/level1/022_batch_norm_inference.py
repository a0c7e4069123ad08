"""Batch normalisation with given statistics: each channel of [batch, channels, height, width] is centred,
scaled and given its weight and bias."""
import torch
import torch.nn.functional as F
from torch import nn

BATCH = 32
CHANNELS = 256
HEIGHT = 56
WIDTH = 56

SMALL = {"BATCH": 2, "CHANNELS": 5, "HEIGHT": 12, "WIDTH": 13}
VARIANTS = ({"BATCH": 1, "CHANNELS": 1, "HEIGHT": 1, "WIDTH": 1},
            {"BATCH": 3, "CHANNELS": 3, "HEIGHT": 25, "WIDTH": 25},
            {"BATCH": 1, "CHANNELS": 9, "HEIGHT": 8, "WIDTH": 8})


class Model(nn.Module):
    def __init__(self, channels, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels))
        self.bias = nn.Parameter(torch.randn(channels))
        self.register_buffer("mean", torch.randn(channels))
        self.register_buffer("variance", torch.rand(channels) + 0.2)
        self.eps = eps

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, training=False, eps=self.eps)


def get_inputs():
    return [torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH)]


def get_init_inputs():
    return [CHANNELS, 1e-5]
