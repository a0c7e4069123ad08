"""Mean of each window of each plane; windows overlap where the stride is less than their size."""
import torch
import torch.nn.functional as F
from torch import nn

BATCH = 32
CHANNELS = 64
HEIGHT = 112
WIDTH = 112
WINDOW = 4
STRIDE = 2

SMALL = {"BATCH": 2, "CHANNELS": 3, "HEIGHT": 20, "WIDTH": 27}
VARIANTS = ({"BATCH": 1, "CHANNELS": 1, "HEIGHT": 4, "WIDTH": 4},
            {"BATCH": 1, "CHANNELS": 5, "HEIGHT": 17, "WIDTH": 41, "WINDOW": 3, "STRIDE": 1},
            {"BATCH": 2, "CHANNELS": 1, "HEIGHT": 9, "WIDTH": 7, "WINDOW": 1, "STRIDE": 3})


class Model(nn.Module):
    def __init__(self, window, stride):
        super().__init__()
        self.window, self.stride = window, stride

    def forward(self, x):
        return F.avg_pool2d(x, self.window, self.stride)


def get_inputs():
    return [torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH)]


def get_init_inputs():
    return [WINDOW, STRIDE]
