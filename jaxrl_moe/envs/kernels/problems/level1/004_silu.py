"""Sigmoid linear unit: x times its own logistic function."""
import torch
import torch.nn.functional as F
from torch import nn

BATCH = 32
CHANNELS = 256
LENGTH = 4096

SMALL = {"BATCH": 2, "CHANNELS": 6, "LENGTH": 300}
VARIANTS = ({"BATCH": 1, "CHANNELS": 1, "LENGTH": 1}, {"BATCH": 3, "CHANNELS": 5, "LENGTH": 97},
            {"BATCH": 1, "CHANNELS": 4, "LENGTH": 512})


class Model(nn.Module):
    def forward(self, x):
        return F.silu(x)


def get_inputs():
    return [torch.randn(BATCH, CHANNELS, LENGTH) * 3]


def get_init_inputs():
    return []
