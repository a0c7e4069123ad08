"""Each channel of [batch, channels, length] is multiplied by its own scale and moved by its own shift."""
import torch
from torch import nn

BATCH = 32
CHANNELS = 512
LENGTH = 2048

SMALL = {"BATCH": 2, "CHANNELS": 5, "LENGTH": 200}
VARIANTS = ({"BATCH": 1, "CHANNELS": 1, "LENGTH": 1}, {"BATCH": 3, "CHANNELS": 7, "LENGTH": 65},
            {"BATCH": 2, "CHANNELS": 3, "LENGTH": 1030})


class Model(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(channels))
        self.shift = nn.Parameter(torch.randn(channels))

    def forward(self, x):
        return x * self.scale[:, None] + self.shift[:, None]


def get_inputs():
    return [torch.randn(BATCH, CHANNELS, LENGTH)]


def get_init_inputs():
    return [CHANNELS]
