"""Largest element over the middle dimension of [batch, length, width]."""
import torch
from torch import nn

BATCH = 64
LENGTH = 1024
WIDTH = 512

SMALL = {"BATCH": 2, "LENGTH": 40, "WIDTH": 150}
VARIANTS = ({"BATCH": 1, "LENGTH": 1, "WIDTH": 1}, {"BATCH": 3, "LENGTH": 17, "WIDTH": 31},
            {"BATCH": 1, "LENGTH": 33, "WIDTH": 129})


class Model(nn.Module):
    def forward(self, x):
        return torch.amax(x, dim=1)


def get_inputs():
    return [torch.randn(BATCH, LENGTH, WIDTH) - 2 * torch.rand(BATCH, 1, WIDTH)]


def get_init_inputs():
    return []
