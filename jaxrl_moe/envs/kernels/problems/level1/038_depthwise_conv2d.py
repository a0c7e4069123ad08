"""Depthwise convolution: each channel has a window of its own and a bias; stride and padding are given."""
import torch
from torch import nn

BATCH = 16
CHANNELS = 256
HEIGHT = 56
WIDTH = 56
WINDOW = 5
STRIDE = 1
PADDING = 2

SMALL = {"BATCH": 2, "CHANNELS": 2, "HEIGHT": 14, "WIDTH": 17}
VARIANTS = ({"BATCH": 1, "CHANNELS": 1, "HEIGHT": 1, "WIDTH": 1},
            {"BATCH": 1, "CHANNELS": 7, "HEIGHT": 19, "WIDTH": 23, "WINDOW": 3, "STRIDE": 2, "PADDING": 1},
            {"BATCH": 3, "CHANNELS": 2, "HEIGHT": 8, "WIDTH": 5, "PADDING": 0})


class Model(nn.Module):
    def __init__(self, channels, window, stride, padding):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, window, stride, padding, groups=channels)

    def forward(self, x):
        return self.conv(x)


def get_inputs():
    return [torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH)]


def get_init_inputs():
    return [CHANNELS, WINDOW, STRIDE, PADDING]
