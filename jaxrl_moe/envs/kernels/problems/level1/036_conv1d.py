"""Convolution in one dimension with stride, padding and dilation."""
import torch
from torch import nn

BATCH = 32
CHANNELS_IN = 64
CHANNELS_OUT = 128
LENGTH = 4096
TAPS = 5
STRIDE = 2
PADDING = 3
DILATION = 2

SMALL = {"BATCH": 2, "CHANNELS_IN": 4, "CHANNELS_OUT": 6, "LENGTH": 90}
VARIANTS = ({"BATCH": 1, "CHANNELS_IN": 1, "CHANNELS_OUT": 1, "LENGTH": 3},
            {"BATCH": 1, "CHANNELS_IN": 7, "CHANNELS_OUT": 33, "LENGTH": 65},
            {"BATCH": 3, "CHANNELS_IN": 3, "CHANNELS_OUT": 5, "LENGTH": 50, "TAPS": 1, "STRIDE": 1,
             "PADDING": 0, "DILATION": 1})


class Model(nn.Module):
    def __init__(self, channels_in, channels_out, taps, stride, padding, dilation):
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels_out, taps, stride, padding, dilation)

    def forward(self, x):
        return self.conv(x)


def get_inputs():
    return [torch.randn(BATCH, CHANNELS_IN, LENGTH)]


def get_init_inputs():
    return [CHANNELS_IN, CHANNELS_OUT, TAPS, STRIDE, PADDING, DILATION]
