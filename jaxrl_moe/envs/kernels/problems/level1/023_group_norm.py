"""Group normalisation of [batch, channels, length] with a weight and a bias for each channel."""
import torch
import torch.nn.functional as F
from torch import nn

BATCH = 32
CHANNELS = 256
LENGTH = 2048
GROUPS = 32

SMALL = {"BATCH": 2, "CHANNELS": 8, "LENGTH": 150, "GROUPS": 4}
VARIANTS = ({"BATCH": 1, "CHANNELS": 2, "LENGTH": 1, "GROUPS": 1},
            {"BATCH": 2, "CHANNELS": 9, "LENGTH": 171, "GROUPS": 3},
            {"BATCH": 1, "CHANNELS": 6, "LENGTH": 1025, "GROUPS": 6})


class Model(nn.Module):
    def __init__(self, channels, groups, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels))
        self.bias = nn.Parameter(torch.randn(channels))
        self.groups = groups
        self.eps = eps

    def forward(self, x):
        return F.group_norm(x, self.groups, self.weight, self.bias, self.eps)


def get_inputs():
    return [torch.randn(BATCH, CHANNELS, LENGTH) + torch.randn(BATCH, CHANNELS, 1)]


def get_init_inputs():
    return [CHANNELS, GROUPS, 1e-5]
