"""Largest element of each window of each plane; what pads the edge never wins."""
import torch
import torch.nn.functional as F
from torch import nn

BATCH = 32
CHANNELS = 64
HEIGHT = 112
WIDTH = 112
WINDOW = 3
STRIDE = 2
PADDING = 1

SMALL = {"BATCH": 2, "CHANNELS": 3, "HEIGHT": 20, "WIDTH": 27}
VARIANTS = ({"BATCH": 1, "CHANNELS": 1, "HEIGHT": 1, "WIDTH": 1},
            {"BATCH": 2, "CHANNELS": 3, "HEIGHT": 33, "WIDTH": 35, "WINDOW": 2, "STRIDE": 2, "PADDING": 0},
            {"BATCH": 1, "CHANNELS": 5, "HEIGHT": 7, "WIDTH": 16, "WINDOW": 4, "STRIDE": 1, "PADDING": 2})


class Model(nn.Module):
    def __init__(self, window, stride, padding):
        super().__init__()
        self.window, self.stride, self.padding = window, stride, padding

    def forward(self, x):
        return F.max_pool2d(x, self.window, self.stride, self.padding)


def get_inputs():
    return [torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH) - 2]


def get_init_inputs():
    return [WINDOW, STRIDE, PADDING]
