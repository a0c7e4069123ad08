"""Convolution in two dimensions with bias, then the rectifier."""
import torch
from torch import nn

BATCH = 32
CHANNELS_IN = 64
CHANNELS_OUT = 64
HEIGHT = 56
WIDTH = 56
WINDOW = 3
PADDING = 1

SMALL = {"BATCH": 1, "CHANNELS_IN": 4, "CHANNELS_OUT": 6, "HEIGHT": 10, "WIDTH": 13}
VARIANTS = ({"BATCH": 1, "CHANNELS_IN": 1, "CHANNELS_OUT": 1, "HEIGHT": 1, "WIDTH": 1},
            {"BATCH": 2, "CHANNELS_IN": 3, "CHANNELS_OUT": 35, "HEIGHT": 9, "WIDTH": 7},
            {"BATCH": 1, "CHANNELS_IN": 5, "CHANNELS_OUT": 2, "HEIGHT": 6, "WIDTH": 17, "WINDOW": 1,
             "PADDING": 0})


class Model(nn.Module):
    def __init__(self, channels_in, channels_out, window, padding):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, window, padding=padding)

    def forward(self, x):
        return torch.relu(self.conv(x))


def get_inputs():
    return [2 * torch.randn(BATCH, CHANNELS_IN, HEIGHT, WIDTH)]


def get_init_inputs():
    return [CHANNELS_IN, CHANNELS_OUT, WINDOW, PADDING]
