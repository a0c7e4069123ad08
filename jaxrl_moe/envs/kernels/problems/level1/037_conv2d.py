"""Convolution in two dimensions with a square window and padding, without a bias."""
import torch
from torch import nn

BATCH = 16
CHANNELS_IN = 64
CHANNELS_OUT = 128
HEIGHT = 64
WIDTH = 64
WINDOW = 3
PADDING = 1

SMALL = {"BATCH": 2, "CHANNELS_IN": 3, "CHANNELS_OUT": 6, "HEIGHT": 9, "WIDTH": 11}
VARIANTS = ({"BATCH": 1, "CHANNELS_IN": 1, "CHANNELS_OUT": 1, "HEIGHT": 1, "WIDTH": 1},
            {"BATCH": 1, "CHANNELS_IN": 5, "CHANNELS_OUT": 33, "HEIGHT": 7, "WIDTH": 13},
            {"BATCH": 1, "CHANNELS_IN": 2, "CHANNELS_OUT": 3, "HEIGHT": 12, "WIDTH": 9, "WINDOW": 5,
             "PADDING": 0})


class Model(nn.Module):
    def __init__(self, channels_in, channels_out, window, padding):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, window, padding=padding, bias=False)

    def forward(self, x):
        return self.conv(x)


def get_inputs():
    return [torch.randn(BATCH, CHANNELS_IN, HEIGHT, WIDTH)]


def get_init_inputs():
    return [CHANNELS_IN, CHANNELS_OUT, WINDOW, PADDING]
