"""Sum of a [batch, length, width] array and one of [batch, 1, width] that is repeated along the length."""
import torch
from torch import nn

BATCH = 16
LENGTH = 2048
WIDTH = 1024

SMALL = {"BATCH": 2, "LENGTH": 9, "WIDTH": 70}
VARIANTS = ({"BATCH": 1, "LENGTH": 1, "WIDTH": 1}, {"BATCH": 3, "LENGTH": 1, "WIDTH": 130},
            {"BATCH": 2, "LENGTH": 17, "WIDTH": 33})


class Model(nn.Module):
    def forward(self, x, y):
        return x + y


def get_inputs():
    return [torch.randn(BATCH, LENGTH, WIDTH), torch.randn(BATCH, 1, WIDTH)]


def get_init_inputs():
    return []
