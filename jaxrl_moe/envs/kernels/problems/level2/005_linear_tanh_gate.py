"""Linear layer, hyperbolic tangent, a gate for each feature and a number taken off."""
import torch
from torch import nn

TOKENS = 8192
WIDTH_IN = 2048
WIDTH_OUT = 2048

SMALL = {"TOKENS": 40, "WIDTH_IN": 50, "WIDTH_OUT": 70}
VARIANTS = ({"TOKENS": 1, "WIDTH_IN": 1, "WIDTH_OUT": 1}, {"TOKENS": 66, "WIDTH_IN": 35, "WIDTH_OUT": 13},
            {"TOKENS": 2, "WIDTH_IN": 64, "WIDTH_OUT": 128})


class Model(nn.Module):
    def __init__(self, width_in, width_out, offset):
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)
        self.gate = nn.Parameter(torch.randn(width_out))
        self.offset = offset

    def forward(self, x):
        return torch.tanh(self.linear(x)) * self.gate - self.offset


def get_inputs():
    return [2 * torch.randn(TOKENS, WIDTH_IN)]


def get_init_inputs():
    return [WIDTH_IN, WIDTH_OUT, 0.25]
