"""Gaussian error linear unit in its tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
import torch
import torch.nn.functional as F
from torch import nn

TOKENS = 8192
WIDTH = 4096

SMALL = {"TOKENS": 6, "WIDTH": 500}
VARIANTS = ({"TOKENS": 1, "WIDTH": 1}, {"TOKENS": 5, "WIDTH": 411}, {"TOKENS": 2, "WIDTH": 1024})


class Model(nn.Module):
    def forward(self, x):
        return F.gelu(x, approximate="tanh")


def get_inputs():
    return [torch.randn(TOKENS, WIDTH) * 2]


def get_init_inputs():
    return []
